/** The map of all glyphs: point, and see what stands there; search; see where drawn glyphs fell. */

import type createScatterplot from 'regl-scatterplot';

interface Data {
  points: [number, number][];
  characters: string;
  texts: string[];
  radicals: string[];
  structures: string[];
  parts: string[];
  drawn: { prompt: string; at: [number, number]; picture: string }[];
  sheet: { side: number; columns: number; rows: number };
}
type Plot = ReturnType<typeof createScatterplot>;

export async function atlas(root: HTMLElement): Promise<void> {
  const note = root.querySelector('[data-note]') as HTMLElement;
  note.textContent = 'loading the map ...';
  const [data, { default: scatter }] = await Promise.all([
    fetch('data/atlas.json').then((r) => r.json() as Promise<Data>),
    import('regl-scatterplot'),
  ]);
  const characters = [...data.characters];
  const everyone = [...data.points, ...data.drawn.map((d) => d.at)];
  const span = [0, 1].map((k) => everyone.map((p) => p[k])).map((v) => [v.reduce((a, b) => Math.min(a, b)), v.reduce((a, b) => Math.max(a, b))]);
  const colourBy = root.querySelector('[name="colour"]') as HTMLSelectElement;
  const canvas = root.querySelector('canvas') as HTMLCanvasElement;
  const popup = root.querySelector('[data-popup]') as HTMLElement;
  const box = canvas.parentElement as HTMLElement;
  const scale = (1.9 / Math.max(...span.map(([low, high]) => high - low))) * Math.min(1, box.clientWidth / box.clientHeight);
  const place = (p: number[]) => p.map((v, k) => (v - (span[k][0] + span[k][1]) / 2) * scale);
  const css = (name: string) => getComputedStyle(root).getPropertyValue(name).trim();
  const palette = ['#3a6ea5', '#c8452f', '#6a8f3c', '#8e5ba6', '#c58a1f', '#2f8f8a', '#a5486f', '#7a6a58', '#5f6b7a'];

  let plot: Plot | null = null;
  try {
    plot = scatter({ canvas, width: box.clientWidth, height: box.clientHeight, pointSize: 2.5, opacity: 0.8, lassoOnLongPress: false });
  } catch {
    note.textContent = 'this browser has no WebGL for the map; the search below works all the same';
  }

  function groups(): number[] {
    const labels = colourBy.value === 'structure' ? data.structures : data.radicals;
    const counts = new Map<string, number>();
    for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    const common = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([label]) => label);
    (root.querySelector('[data-legend]') as HTMLElement).replaceChildren(
      ...[...common, 'others'].map((label, i) => {
        const item = document.createElement('li');
        item.style.setProperty('--mark', palette[i]);
        item.textContent = label;
        return item;
      }),
    );
    return labels.map((label) => (common.includes(label) ? common.indexOf(label) : 8));
  }

  async function redraw() {
    if (!plot) return;
    const kinds = groups();
    plot.set({ backgroundColor: css('--paper'), colorBy: 'valueA', pointColor: [...palette, css('--ink')] });
    await plot.draw(everyone.map((p, i) => [...place(p), i < kinds.length ? kinds[i] : 9] as [number, number, number]));
  }

  function tell(i: number | null) {
    popup.hidden = i === null;
    if (i === null) return;
    popup.replaceChildren();
    const picture = document.createElement(i < characters.length ? 'span' : 'img');
    picture.className = 'glyph';
    const words = document.createElement('p');
    if (i < characters.length) {
      const { side, columns, rows } = data.sheet;
      const [sheet, cell] = [Math.floor(i / (columns * rows)), i % (columns * rows)];
      picture.style.backgroundImage = `url(data/atlas-${sheet}.png)`;
      picture.style.backgroundPosition = `-${(cell % columns) * side}px -${Math.floor(cell / columns) * side}px`;
      picture.style.width = picture.style.height = `${side}px`;
      words.innerHTML = '<strong></strong> <span></span><br><small></small>';
      (words.children[0] as HTMLElement).textContent = characters[i];
      (words.children[1] as HTMLElement).textContent = data.texts[i];
      const others = [...data.parts[i]].filter((part) => part !== data.radicals[i]).join(' ');
      (words.children[3] as HTMLElement).textContent = `radical ${data.radicals[i]}; ${data.structures[i]}${others ? `; other parts ${others}` : ''}`;
    } else {
      const drawn = data.drawn[i - characters.length];
      (picture as HTMLImageElement).src = drawn.picture;
      (picture as HTMLImageElement).alt = `drawn for "${drawn.prompt}"`;
      words.textContent = `drawn by the model for "${drawn.prompt}"`;
    }
    popup.append(picture, words);
  }

  if (plot) {
    plot.subscribe('pointOver', (i: number) => tell(i));
    plot.subscribe('select', ({ points }: { points: number[] }) => tell(points[0] ?? null));
    new ResizeObserver(() => plot.set({ width: box.clientWidth, height: box.clientHeight })).observe(box);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => void redraw());
    colourBy.addEventListener('input', () => void redraw());
    await redraw();
    note.textContent = `${characters.length} glyphs, and ${data.drawn.length} drawn ones in the colour of ink. Point at one; scroll to come nearer.`;
  }

  async function find(i: number) {
    tell(i);
    plot?.select([i], { preventEvent: true });
    await plot?.zoomToPoints([i], { padding: 8, transition: !matchMedia('(prefers-reduced-motion: reduce)').matches });
  }

  const search = root.querySelector('form') as HTMLFormElement;
  const results = root.querySelector('[data-results]') as HTMLElement;
  search.addEventListener('submit', (event) => {
    event.preventDefault();
    const words = (search.elements.namedItem('search') as HTMLInputElement).value.trim().toLowerCase();
    const wanted = words
      ? characters.map((_, i) => i).filter((i) => characters[i] === words || ` ${data.texts[i].toLowerCase()} `.includes(words))
      : [];
    results.replaceChildren(
      ...wanted.slice(0, 12).map((i) => {
        const button = Object.assign(document.createElement('button'), { type: 'button', textContent: `${characters[i]} ${data.texts[i].slice(0, 40)}` });
        button.addEventListener('click', () => void find(i));
        return button;
      }),
    );
    if (!wanted.length) results.textContent = 'no glyph says that';
    else void find(wanted[0]);
  });
  for (const button of root.querySelectorAll<HTMLButtonElement>('[data-find]')) {
    button.disabled = !characters.includes(button.dataset.find as string);
    button.addEventListener('click', () => void find(characters.indexOf(button.dataset.find as string)));
  }
}
