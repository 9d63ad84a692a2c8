/** The playground: a prompt, the model at work, nine seeds, what each drawing shows, and how to take it along. */

import './hero.css';
import { pictureNoise } from './diffusion/noise';
import type { Drawn, Engine } from './engine/engine';
import type { Explanation, Half, Step } from './engine/messages';
import { explain } from './explain';
import { Gallery } from './gallery';
import { type Recording, loadRecording } from './hero';
import { DEEPEST, HALVES, START, type Wanted, depth, fromLink, toLink, withSeed } from './links';
import { Options } from './options';
import { paint } from './paint';
import { Player } from './player';
import { Share, type Shown } from './share';
import { GRID, type Manner, Studio, type Watcher, around } from './studio';
import { tr } from './strings';

const calm = matchMedia('(prefers-reduced-motion: reduce)');

export class Playground implements Watcher {
  private readonly options: Options;
  private readonly player: Player;
  private readonly gallery: Gallery;
  private readonly studio: Studio;
  private recording: Recording | null = null;
  private shown: Wanted = START; // what the large picture is of
  private explanation: Explanation | null = null;
  private steps: Step[] = []; // of a drawing that does not show them yet
  private loaded = new Set<Engine>();
  private cached = false; // all that the engine needs is here already
  private asked = 0;
  private note = ''; // on how the prompt is read
  private said = '';

  constructor(
    private readonly root: HTMLElement,
    private readonly engines: Record<string, Engine>,
  ) {
    const by = root.querySelector('[name="engine"]') as HTMLSelectElement;
    for (const name of Object.keys(engines)) by.add(new Option(name, name));
    (by.closest('label') as HTMLElement).hidden = Object.keys(engines).length < 2;
    by.addEventListener('change', () => void this.price());
    this.options = new Options(root, () => this.typed());
    this.studio = new Studio(() => this.engine, this);
    this.player = new Player(root, () => this.stepsAgain(), (n, last) => this.looked(n, last));
    this.gallery = new Gallery(root.querySelector('[data-seeds]') as HTMLElement, GRID, (seed) => this.choose(seed));
    new Share(
      root,
      () => this.taken(),
      (text, wrong) => this.say(text, wrong),
    );
    (root.querySelector('form') as HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.draw();
    });
    this.on('stop', () => this.stop());
    this.on('pin', () => this.pin());
    this.on('panels', () => this.toggle());
    this.on('more', () => this.more());
    this.on('let-go', () => {
      this.options.keep(undefined);
      void this.draw();
    });
    for (const half of HALVES) this.on(`keep-${half}`, () => this.keep(half));
    addEventListener('hashchange', () => {
      const wanted = fromLink(location.hash);
      if (wanted && toLink(wanted) !== toLink(this.options.wanted)) this.restore(wanted);
    });
    (document.querySelector('[data-api-link]') as HTMLElement | null)?.toggleAttribute('hidden', !document.documentElement.dataset.api);
    this.options.show(fromLink(location.hash) ?? START);
    for (const kind of ['focusin', 'pointerover']) root.addEventListener(kind, () => this.engine.warm?.(), { once: true });
    void this.open();
    void this.price();
  }

  private get engine(): Engine {
    return this.engines[(this.root.querySelector('[name="engine"]') as HTMLSelectElement).value];
  }

  private on(name: string, work: () => void): void {
    this.root.querySelector(`[data-do="${name}"]`)?.addEventListener('click', work);
  }

  // -- the first moment ------------------------------------------------------------------------------------------

  private async open(): Promise<void> {
    this.recording = await loadRecording('data/hero.json').catch(() => null); // a page without it still draws
    for (const [seed, pixels] of this.recording?.finished ?? []) {
      this.studio.keep(withSeed((this.recording as Recording).wanted, seed), pixels);
    }
    const wanted = fromLink(location.hash);
    if (wanted) this.restore(wanted);
    else if (this.recording) {
      this.options.show(this.recording.wanted);
      await this.present(this.recording.wanted, !calm.matches);
    }
  }

  /** Arrive at the drawing that a link describes. */
  private restore(wanted: Wanted): void {
    this.options.show(wanted);
    const { top } = this.root.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) this.root.scrollIntoView({ behavior: 'instant' });
    if (this.recording?.holds(wanted)) void this.present(wanted, false);
    else void this.draw();
  }

  /** A recorded drawing; with `play`, it forms. */
  private async present(wanted: Wanted, play: boolean): Promise<void> {
    const recording = this.recording as Recording;
    this.studio.stop();
    this.shown = wanted;
    this.explained(wanted, null);
    const steps = await recording.steps(wanted.seed);
    if (this.shown !== wanted) return;
    this.gallery.show(around(wanted.seed), wanted.seed, (seed) => recording.finished.get(seed));
    this.player.present(wanted.prompt, steps, recording.finished.get(wanted.seed) as Float32Array);
    this.read(wanted, null);
    this.busy(false);
    this.say('');
    if (play) this.player.play();
    const told = recording.explanation(wanted.seed);
    // Chromium keeps the empty boxes of characters that were laid out before their font came
    if (told) await document.fonts.load("1em 'zaozi hero'", told.radical.character).catch(() => undefined);
    if (this.shown === wanted) this.explained(wanted, told);
  }

  private offer(examples: readonly string[]): void {
    const place = this.root.querySelector('[data-examples]') as HTMLElement;
    place.replaceChildren(
      ...examples.map((example) => {
        const button = Object.assign(document.createElement('button'), { type: 'button', textContent: example });
        button.addEventListener('click', () => {
          this.options.set({ prompt: example });
          this.options.keep(undefined);
          void this.draw();
        });
        return button;
      }),
    );
  }

  /** What the first drawing costs, on the button. */
  private async price(): Promise<void> {
    const engine = this.engine;
    const bytes = await engine.size(this.options.wanted.prompt).catch(() => null);
    if (engine !== this.engine) return;
    this.options.fill(engine.card);
    this.offer(engine.card?.examples ?? []);
    this.cached = bytes === 0;
    const free = !bytes || this.loaded.has(engine);
    this.cost(free ? '' : tr(' (loads {1} MB once)', megabytes(bytes)));
  }

  private cost(text: string): void {
    (this.root.querySelector('[data-cost]') as HTMLElement).textContent = text;
  }

  // -- asking ----------------------------------------------------------------------------------------------------

  /** A field changed. Nothing is fetched for that: before the first drawing, only the button starts it. */
  private typed(): void {
    const { wanted } = this.options;
    if (!wanted.prompt.trim()) {
      this.studio.stop();
      this.busy(false);
    } else if (this.loaded.has(this.engine)) this.studio.typed(wanted);
    else if (this.cached) void this.load().then((ready) => ready && this.studio.typed(this.options.wanted));
  }

  async draw(): Promise<void> {
    const { wanted } = this.options;
    if (!wanted.prompt.trim()) return this.say(tr('Type a meaning first.'), true);
    this.options.set({ seed: wanted.seed }); // as it is drawn, whatever was typed
    history.replaceState(null, '', toLink(wanted));
    if (this.recording?.holds(wanted) && !this.loaded.has(this.engine)) return this.present(wanted, !calm.matches);
    if (!this.loaded.has(this.engine)) {
      this.studio.stop();
      this.shown = wanted;
      this.explained(wanted, null);
      this.gallery.show(around(wanted.seed), wanted.seed, (seed) => this.studio.finished(withSeed(wanted, seed)));
      const shape = this.engine.card?.shape ?? this.recording?.about.shape;
      if (shape) this.player.wait(wanted.prompt, pictureNoise(wanted.seed, 0, shape.reduce((a, b) => a * b))(0));
    }
    if (await this.load()) await this.studio.draw(this.options.wanted, 'live');
  }

  /** Make the engine ready. False where that failed, or where something else was asked for meanwhile. */
  private async load(): Promise<boolean> {
    const [asked, engine] = [++this.asked, this.engine];
    if (this.loaded.has(engine)) return true;
    try {
      this.say(tr('Loading the model.'));
      this.busy(true);
      const began = performance.now();
      const by = await engine.load((loaded, total) => {
        if (asked !== this.asked || !this.root.classList.contains('busy')) return; // what follows behind is not waited for
        const left = Math.ceil(((performance.now() - began) / 1000) * (total / Math.max(loaded, 1) - 1));
        const rest = loaded < total ? tr('{1} s left', left) : tr('starting');
        this.progress(loaded, total, tr('{1} of {2} MB, {3}', megabytes(loaded), megabytes(total), rest));
      }, this.options.wanted.prompt);
      this.loaded.add(engine);
      (this.root.querySelector('[data-engine]') as HTMLElement).textContent = by;
      this.options.fill(engine.card);
      this.cost('');
      if (asked !== this.asked) return false;
      this.busy(false);
      this.say(tr('Ready. It draws while you type.'));
      return true;
    } catch (error) {
      if (asked === this.asked) this.failed(error);
      return false;
    }
  }

  private stop(): void {
    this.asked++;
    this.studio.stop();
    this.busy(false);
    this.say(tr('Stopped.'));
  }

  private choose(seed: number): void {
    const wanted = withSeed(this.shown, seed);
    this.options.show(wanted);
    history.replaceState(null, '', toLink(wanted));
    const pixels = this.studio.finished(wanted);
    if (!pixels) void this.draw();
    else if (this.recording?.holds(wanted)) void this.present(wanted, false);
    else {
      this.shown = wanted;
      this.player.present(wanted.prompt, [], pixels);
      this.gallery.show(around(seed), seed, (other) => this.studio.finished(withSeed(wanted, other)));
      this.explained(wanted, null);
      void this.studio.choose(wanted, pixels);
    }
  }

  private more(): void {
    const next = around(this.options.wanted.seed)[0] + GRID;
    this.options.set({ seed: next < 2 ** 32 ? next : 0 });
    void this.draw();
  }

  /** Redraw the other half, from the next seeds: the same ones would draw much the same. */
  private keep(half: Half): void {
    if (!this.player.final) return this.say(tr('Draw something first.'), true);
    if (depth(this.shown) >= DEEPEST) return this.say(tr('Too many halves were kept in a row. Draw a new character first.'), true);
    this.options.keep({ half, of: this.shown }, this.player.final);
    this.studio.keep(this.shown, this.player.final);
    this.more();
  }

  // -- what the studio tells --------------------------------------------------------------------------------------

  began(wanted: Wanted, manner: Manner): void {
    this.busy(true);
    if (manner === 'sketch') return;
    history.replaceState(null, '', toLink(wanted));
    this.steps = [];
    this.gallery.show(around(wanted.seed), wanted.seed, (seed) => this.studio.finished(withSeed(wanted, seed)));
    this.say(tr('Drawing.'));
    this.progress(0, wanted.steps, '');
    if (manner === 'live') {
      this.shown = wanted;
      this.player.begin(wanted.prompt);
      this.explained(wanted, null);
    }
  }

  step(wanted: Wanted, step: Step, manner: Manner): void {
    if (manner === 'sketch') {
      this.shown = wanted;
      this.player.glimpse(wanted.prompt, step.x0, tr('preview'));
      this.explained(wanted, null);
      this.sketched(wanted);
      return;
    }
    this.steps.push(step);
    this.progress(this.steps.length, wanted.steps, tr('step {1} of {2}', this.steps.length, wanted.steps));
    if (manner === 'live') this.player.add(step);
  }

  drawn(wanted: Wanted, drawn: Drawn, manner: Manner): void {
    this.shown = wanted;
    if (manner === 'sketch') {
      this.player.present(wanted.prompt, [], drawn.pixels, tr('preview'));
      this.explained(wanted, null);
      this.sketched(wanted);
      return;
    }
    this.player.present(wanted.prompt, this.steps, drawn.pixels);
    this.gallery.put(wanted.seed, drawn.pixels);
    this.busy(false);
    this.say(tr('Drawn in {1} s.', drawn.seconds.toFixed(1)));
    this.root.dispatchEvent(new CustomEvent('drawn', { detail: drawn, bubbles: true }));
  }

  private sketched({ prompt }: Wanted): void {
    this.root.dispatchEvent(new CustomEvent('sketched', { detail: prompt, bubbles: true }));
  }

  read(_: Wanted, reading: { unknown: string[]; note: string | null } | null): void {
    const unknown = reading?.unknown ?? [];
    const words = unknown.map((word) => `“${word}”`).join(', ');
    const lost = unknown.length ? tr('The model does not know {1}.', words) : '';
    this.note = [reading?.note, lost].filter(Boolean).join(' ');
    this.say(this.said);
  }

  explained(_: Wanted, explanation: Explanation | null): void {
    this.explanation = explanation;
    explain(this.root.querySelector('[data-explanation]') as HTMLElement, explanation);
  }

  neighbour(wanted: Wanted, pixels: Float32Array): void {
    this.gallery.put(wanted.seed, pixels);
  }

  rested(): void {
    this.busy(false);
  }

  failed(error: unknown): void {
    this.busy(false);
    this.say(error instanceof Error ? error.message : String(error), true);
  }

  // -- what is shown ----------------------------------------------------------------------------------------------

  /** The recorded seeds form together. */
  private looked(n: number, last: number): void {
    if (!this.recording?.holds(this.shown)) return;
    const { guesses, finished, about } = this.recording;
    for (const seed of about.seeds) {
      if (n < last) this.gallery.put(seed, (guesses.get(seed) as Uint8Array[])[n], 0, about.tones);
      else this.gallery.put(seed, finished.get(seed) as Float32Array);
    }
  }

  /** Draw a picture again that came without its steps. */
  private async stepsAgain(): Promise<Step[] | null> {
    if (this.recording?.holds(this.shown)) return this.recording.steps(this.shown.seed);
    this.options.show(this.shown);
    await this.draw();
    return null; // they were shown as they came
  }

  /** What there is to take along. */
  private taken(): Shown | null {
    const { final } = this.player;
    if (!final) return null;
    const wanted = this.shown;
    return {
      wanted,
      final,
      explanation: this.explanation,
      frames: () => this.frames(),
      largest: this.engine.card?.stages?.[0]?.size ?? 0,
      enlarge: async () => ((await this.load()) ? this.engine.enlarge(final, wanted) : null),
    };
  }

  private async frames(): Promise<Float32Array[]> {
    if (!this.player.steps.length) await this.stepsAgain();
    return this.player.steps.map((step) => step.x);
  }

  private toggle(): void {
    const [button, panels, seeds] = ['[data-do="panels"]', '[data-panels]', '[data-seeds]'].map((s) => this.root.querySelector(s) as HTMLElement);
    panels.hidden = !panels.hidden;
    seeds.hidden = !panels.hidden;
    button.setAttribute('aria-pressed', `${!panels.hidden}`);
    this.player.panels();
  }

  private pin(): void {
    const pixels = this.player.final;
    if (!pixels) return this.say(tr('Draw something first.'), true);
    const wanted = this.shown;
    const [item, button, canvas] = [document.createElement('li'), document.createElement('button'), document.createElement('canvas')];
    this.studio.keep(wanted, pixels);
    paint(canvas, pixels);
    button.type = 'button';
    const caption = [wanted.prompt, wanted.sampler, tr('{1} steps', wanted.steps), tr('guidance {1}', wanted.guidance), tr('seed {1}', wanted.seed)].join(' · ');
    button.append(canvas, Object.assign(document.createElement('span'), { textContent: caption }));
    button.setAttribute('aria-label', tr('Go back to: {1}', caption));
    button.addEventListener('click', () => this.restore(wanted));
    item.append(button);
    (this.root.querySelector('[data-pins]') as HTMLElement).prepend(item);
  }

  private say(text: string, wrong = false): void {
    const status = this.root.querySelector('[role="status"]') as HTMLElement;
    this.said = text;
    status.textContent = [this.note, text].filter(Boolean).join(' ');
    status.classList.toggle('wrong', wrong);
  }

  private busy(yes: boolean): void {
    this.root.classList.toggle('busy', yes);
    this.root.classList.toggle('colour', (this.engine.card?.channels ?? 1) > 1);
    if (!yes) this.progress(0, 0, '');
  }

  private progress(value: number, max: number, text: string): void {
    const bar = this.root.querySelector('progress') as HTMLProgressElement;
    bar.max = max || 1;
    bar.value = value;
    (this.root.querySelector('[data-count]') as HTMLElement).textContent = text;
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e6 ? 1 : 0);
}
