/** Two towers: the characters whose vectors are nearest to that of a definition, and the other way round. */

import { tr } from '../strings';

interface Pairs {
  side: number;
  texts: string[];
  characters: string[];
  /** Unit vectors of the characters, as drawn. */
  glyphs: number[][];
  /** Unit vectors of the definitions. */
  captions: number[][];
  /** All characters side by side, as the address of a picture. */
  sheet: string;
}

export const cosine = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i], 0);

/** Indices of the vectors, the nearest one to `to` first. */
export function ranked(vectors: readonly number[][], to: readonly number[]): number[] {
  const near = vectors.map((v) => cosine(v, to));
  return near.map((_, i) => i).sort((a, b) => near[b] - near[a]);
}

export async function contrast(root: HTMLElement): Promise<void> {
  const { pairs }: { pairs: Pairs } = await (await fetch('data/contrast.json')).json();
  const { side, texts, characters, glyphs, captions } = pairs;
  const sheet = Object.assign(new Image(), { src: pairs.sheet });
  await sheet.decode();
  const select = root.querySelector('select') as HTMLSelectElement;
  const list = root.querySelector('ol') as HTMLOListElement;
  const output = root.querySelector('output') as HTMLOutputElement;
  select.append(...texts.map((text, i) => new Option(text, `${i}`)));

  const entries = characters.map((character, i) => {
    const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
    canvas.getContext('2d')?.drawImage(sheet, i * side, 0, side, side, 0, 0, side, side);
    const [button, score] = [document.createElement('button'), document.createElement('span')];
    button.type = 'button';
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', character);
    button.append(canvas, score);
    button.addEventListener('click', () => {
      const best = ranked(captions, glyphs[i])[0];
      select.value = `${best}`;
      show();
      output.value = best === i ? tr('This character fits “{1}” best, its own definition.', texts[best]) : tr('This character fits “{1}” best; its own definition is “{2}”.', texts[best], texts[i]);
    });
    const item = document.createElement('li');
    item.append(button);
    return { item, score };
  });

  function show() {
    const chosen = Number(select.value);
    const order = ranked(glyphs, captions[chosen]);
    entries.forEach(({ item, score }, i) => {
      item.setAttribute('aria-current', `${i === chosen}`);
      score.textContent = cosine(glyphs[i], captions[chosen]).toFixed(2);
    });
    list.append(...order.map((i) => entries[i].item));
    const place = order.indexOf(chosen) + 1;
    output.value = place === 1 ? tr('The character with this definition comes first.') : tr('The character with this definition (framed) is number {1} of {2}.', place, texts.length);
  }
  select.addEventListener('change', show);
  show();
}
