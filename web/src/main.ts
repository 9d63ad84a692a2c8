import 'katex/dist/katex.min.css';
import './style.css';
import { BrowserEngine, type Engine, ServerEngine } from './engine/engine';
import { Playground } from './playground';
import { offline } from './offline';
import { redrawing } from './redrawing';
import { tr } from './strings';

const browser = new BrowserEngine('model/');
const engines: Record<string, Engine> = { browser };
const api = document.documentElement.dataset.api;
if (api) engines.server = new ServerEngine(api, browser);
for (const root of document.querySelectorAll<HTMLElement>('.playground')) new Playground(root, engines);

/** Live parts wake up, and their code is loaded, when they come near the window. Browsers lay out a chapter for a list of choices in it, so those come then. */
function near(selector: string, wake: (root: HTMLElement) => void | Promise<void>) {
  for (const root of document.querySelectorAll<HTMLElement>(selector)) {
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (!entry.isIntersecting) return;
        observer.disconnect();
        for (const later of root.querySelectorAll('template')) later.replaceWith(later.content);
        Promise.resolve(wake(root)).catch((error) => {
          (root.querySelector('[data-note]') ?? root).textContent = tr('this part could not be loaded: {1}', error instanceof Error ? error.message : `${error}`);
        });
      },
      { rootMargin: '400px' },
    );
    observer.observe(root);
  }
}
near('[data-live="forward"]', async (root) => (await import('./chapters/forward')).forward(root));
near('[data-live="schedules"]', async (root) => (await import('./chapters/schedules')).schedules(root));
near('[data-live="field"]', async (root) => (await import('./chapters/field')).field(root));
near('[data-live="atlas"]', async (root) => (await import('./chapters/atlas')).atlas(root));
near('[data-live="parts"]', async (root) => (await import('./chapters/parts')).parts(root));
near('[data-live="contrast"]', async (root) => (await import('./chapters/contrast')).contrast(root));
near('[data-live="guided"]', async (root) => (await import('./chapters/guided')).guided(root));
near('[data-live="loop"]', async (root) => (await import('./chapters/loop')).loop(root));
near('[data-live="training"]', async (root) => (await import('./chapters/training')).training(root));
near('[data-live="strokes"]', async (root) => (await import('./chapters/strokes')).strokes(root, browser));

/** A link to a chapter stays on it while what stands above it takes its place. */
function hold() {
  const chapter = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (!chapter) return;
  const sizes = new ResizeObserver(() => chapter.scrollIntoView({ behavior: 'instant' }));
  const free = () => sizes.disconnect();
  sizes.observe(document.querySelector('main') as HTMLElement);
  for (const kind of ['wheel', 'touchstart', 'pointerdown', 'keydown']) addEventListener(kind, free, { once: true, passive: true });
  setTimeout(free, 3000);
}
addEventListener('hashchange', hold);
hold();

// what is wider than the window scrolls in a box of its own, which the keyboard reaches
const boxes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const box = target.closest('.sideways, .formula') as HTMLElement;
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    const name = box.matches('.sideways') ? tr('Figure, scrolls sideways') : tr('Formula, scrolls sideways');
    for (const [key, value] of Object.entries({ tabindex: '0', role: 'group', 'aria-label': name })) {
      if (scrolls) box.setAttribute(key, value);
      else box.removeAttribute(key);
    }
  }
});
for (const box of document.querySelectorAll('.sideways, .formula')) {
  boxes.observe(box);
  if (box.firstElementChild) boxes.observe(box.firstElementChild);
}

// films play only while they are seen, and never where less motion is wanted: there the poster stands
const still = matchMedia('(prefers-reduced-motion: reduce)');
const films = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const film = target as HTMLVideoElement;
    if (isIntersecting && !still.matches) void film.play().catch(() => undefined);
    else film.pause();
  }
});
for (const film of document.querySelectorAll('video')) films.observe(film);
near('video[data-poster]', (film) => film.setAttribute('poster', film.dataset.poster as string));

offline();
if (document.documentElement.dataset.redraw) void redrawing(document.documentElement.dataset.redraw);
