/** The map of all glyphs: point, and see what stands there; search; see where drawn glyphs fell. */

import type createScatterplot from 'regl-scatterplot';
import { hasCharacters } from '../fonts';
import { type Sheets, showGlyph } from '../sheets';
import { onlyOnPurpose } from './gestures';
import { meaning, search } from './search';
import { tr } from '../strings';

interface Data {
  points: [number, number][];
  characters: string;
  texts: string[];
  radicals: string[];
  structures: string[];
  parts: string[];
  drawn: { prompt: string; at: [number, number]; picture: string }[];
  sheet: Sheets;
}
type Plot = ReturnType<typeof createScatterplot>;

const LISTED = 60; // results; the rest is counted
const PALETTE = ['#3a6ea5', '#c8452f', '#6a8f3c', '#8e5ba6', '#c58a1f', '#2f8f8a', '#a5486f', '#7a6a58', '#5f6b7a'];

export async function atlas(root: HTMLElement): Promise<void> {
  const find = <E extends HTMLElement>(selector: string) => root.querySelector(selector) as E;
  const note = find('[data-note]');
  const [data, { default: scatter }] = await Promise.all([
    fetch('data/atlas.json').then((r) => r.json() as Promise<Data>),
    import('regl-scatterplot'),
  ]);
  const characters = [...data.characters];
  const glyphs = { characters, texts: data.texts, radicals: data.radicals };
  const everyone = [...data.points, ...data.drawn.map((d) => d.at)];
  const span = [0, 1].map((k) => everyone.map((p) => p[k])).map((v) => [v.reduce((a, b) => Math.min(a, b)), v.reduce((a, b) => Math.max(a, b))]);
  const colourBy = find<HTMLSelectElement>('[name="colour"]');
  const canvas = find<HTMLCanvasElement>('canvas');
  const popup = find('[data-popup]');
  const results = find('[data-results]');
  const box = canvas.parentElement as HTMLElement;
  const scale = (1.9 / Math.max(...span.map(([low, high]) => high - low))) * Math.min(1, box.clientWidth / box.clientHeight);
  const place = (p: number[]) => p.map((v, k) => (v - (span[k][0] + span[k][1]) / 2) * scale);
  const css = (name: string) => getComputedStyle(root).getPropertyValue(name).trim();
  const fonts = hasCharacters();
  const transition = () => !matchMedia('(prefers-reduced-motion: reduce)').matches;

  let plot: Plot | null = null;
  try {
    plot = scatter({ canvas, width: box.clientWidth, height: box.clientHeight, pointSize: 2.5, opacity: 0.8, lassoOnLongPress: false });
    plot.set({ opacityInactiveMax: 0.2, pointSizeSelected: 3 });
  } catch {
    note.textContent = tr('This browser has no WebGL, so the map is not shown. The search still works.');
  }

  function groups(): number[] {
    const byRadical = colourBy.value === 'radical';
    const labels = byRadical ? data.radicals : data.structures;
    const counts = new Map<string, number>();
    for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    const common = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([label]) => label);
    find('[data-legend]').replaceChildren(
      ...[...common, tr('others')].map((label, i) => {
        const item = document.createElement('li');
        item.style.setProperty('--mark', PALETTE[i]);
        const means = byRadical && i < common.length ? meaning(label, glyphs) : '';
        item.textContent = means ? `${label} ${means}` : tr(label);
        return item;
      }),
    );
    return labels.map((label) => (common.includes(label) ? common.indexOf(label) : 8));
  }

  async function redraw() {
    const kinds = groups();
    if (!plot) return;
    plot.set({ backgroundColor: css('--paper'), colorBy: 'valueA', pointColor: [...PALETTE, css('--ink')], pointColorActive: css('--ink') });
    await plot.draw(everyone.map((p, i) => [...place(p), i < kinds.length ? kinds[i] : 9] as [number, number, number]));
  }

  /** A glyph's picture, `size` of its own size. */
  function glyph(i: number, size = 1): HTMLElement {
    const picture = Object.assign(document.createElement('span'), { className: 'glyph' });
    showGlyph(picture, data.sheet, i, size);
    return picture;
  }

  function tell(i: number | null) {
    popup.hidden = i === null;
    if (i === null) return;
    popup.replaceChildren();
    const words = document.createElement('p');
    let picture: HTMLElement;
    if (i < characters.length) {
      picture = glyph(i);
      words.innerHTML = '<strong></strong> <span></span><br><small></small>';
      (words.children[0] as HTMLElement).textContent = fonts ? characters[i] : '';
      (words.children[1] as HTMLElement).textContent = data.texts[i];
      const others = [...data.parts[i]].filter((part) => part !== data.radicals[i]).join(' ');
      (words.children[3] as HTMLElement).textContent = tr('radical {1}; {2}', data.radicals[i], tr(data.structures[i])) + (others ? tr('; other parts {1}', others) : '');
    } else {
      const drawn = data.drawn[i - characters.length];
      picture = Object.assign(document.createElement('img'), { className: 'glyph', src: drawn.picture, alt: tr('drawn for “{1}”', drawn.prompt) });
      words.textContent = tr('drawn by the model for “{1}”', drawn.prompt);
    }
    popup.append(picture, words);
  }

  /** Mark some glyphs, the first of them told of, and bring all into the window. */
  async function frame(rows: number[], padding: number) {
    tell(rows[0]);
    plot?.select(rows, { preventEvent: true });
    await plot?.zoomToPoints(rows, { padding, transition: transition() });
  }

  if (plot) {
    const { subscribe } = plot;
    subscribe('pointOver', (i: number) => tell(i));
    subscribe('select', ({ points }: { points: number[] }) => tell(points[0] ?? null));
    const move = onlyOnPurpose(plot, box, find('.hint'));
    find('[data-do="in"]').addEventListener('click', () => move.zoom(1.6));
    find('[data-do="out"]').addEventListener('click', () => move.zoom(1 / 1.6));
    find('[data-do="reset"]').addEventListener('click', () => {
      plot.deselect({ preventEvent: true });
      tell(null);
      results.replaceChildren();
      void plot.zoomToOrigin({ transition: transition() });
    });
    new ResizeObserver(() => plot.set({ width: box.clientWidth, height: box.clientHeight })).observe(box);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => void redraw());
    const count = (n: number) => n.toLocaleString('en');
    note.textContent = tr('{1} glyphs, and {2} drawn ones in the text colour. Point at one for details; drag to move.', count(characters.length), count(data.drawn.length));
  } else for (const button of root.querySelectorAll<HTMLButtonElement>('.zoom button')) button.disabled = true;
  colourBy.addEventListener('input', () => void redraw());
  await redraw();

  const form = find<HTMLFormElement>('form');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const found = search((form.elements.namedItem('search') as HTMLInputElement).value, glyphs);
    results.replaceChildren(
      ...found.slice(0, LISTED).map((i) => {
        const words = data.texts[i].length > 40 ? `${data.texts[i].slice(0, 38)} …` : data.texts[i];
        const button = Object.assign(document.createElement('button'), { type: 'button', textContent: fonts ? `${characters[i]} ${words}` : words });
        if (!fonts) button.prepend(glyph(i, 0.5));
        button.dataset.found = characters[i];
        button.addEventListener('click', () => void frame([i], 8));
        return button;
      }),
    );
    const counted = document.createElement('p');
    const more = found.length > LISTED ? tr(', {1} shown', LISTED) : '';
    counted.textContent = found.length ? tr('{1} found{2}', found.length.toLocaleString('en'), more) : tr('no glyph found');
    results.prepend(counted);
    if (found.length) void frame(found, found.length > 1 ? 0.2 : 8);
  });
  for (const button of root.querySelectorAll<HTMLButtonElement>('[data-find]')) {
    const row = characters.indexOf(button.dataset.find as string);
    button.disabled = row < 0;
    button.addEventListener('click', () => void frame([row], 8));
  }
}
