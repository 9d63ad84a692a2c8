/** The guidance slider: glyphs drawn by the library at each scale, the same seeds throughout. */

import { tr } from '../strings';

interface Slider {
  scales: number[];
  columns: number;
  side: number;
  /** A row per scale and a column per seed, as the address of a picture. */
  sheets: { prompt: string; sheet: string }[];
}

const USUAL = 5;

/** What a scale does, in words. */
export function effect(scale: number): string {
  if (scale === 0) return tr('the text is ignored, so these are any characters');
  if (scale === 1) return tr('the plain prediction with the text');
  if (scale <= 3) return tr('the text counts more than the model thinks');
  return scale < 10 ? tr('usual values: the meaning is there in most drawings') : tr('the drawings lose variety');
}

export async function guided(root: HTMLElement): Promise<void> {
  const { slider }: { slider: Slider } = await (await fetch('data/guidance.json')).json();
  const { scales, columns, side, sheets } = slider;
  const select = root.querySelector('select') as HTMLSelectElement;
  const range = root.querySelector('input') as HTMLInputElement;
  const output = root.querySelector('output') as HTMLOutputElement;
  const canvas = root.querySelector('canvas') as HTMLCanvasElement;
  const boards = await Promise.all(sheets.map(async ({ sheet }) => Object.assign(new Image(), { src: sheet })));
  await Promise.all(boards.map((board) => board.decode()));
  [canvas.width, canvas.height] = [columns * side, side];
  select.append(...sheets.map(({ prompt }, i) => new Option(prompt, `${i}`)));
  range.max = `${scales.length - 1}`;
  range.value = `${Math.max(0, scales.indexOf(USUAL))}`;

  function show() {
    const row = Number(range.value);
    canvas.getContext('2d')?.drawImage(boards[Number(select.value)], 0, row * side, columns * side, side, 0, 0, columns * side, side);
    range.setAttribute('aria-valuetext', tr('scale {1}', scales[row]));
    output.value = tr('Scale {1}: {2}.', scales[row], effect(scales[row]));
  }
  for (const field of [select, range]) field.addEventListener('input', show);
  show();
}
