/** What is said about a drawn character: its radical, its parts, and the real characters nearest to it. */

import type { Explanation } from './engine/messages';
import { type Sheets, showGlyph } from './sheets';
import { tr } from './strings';

/** "97% sure", without ever claiming certainty. */
export function sure(probability: number): string {
  if (probability > 0.99) return tr('>99% sure');
  return probability < 0.01 ? tr('<1% sure') : tr('{1}% sure', Math.round(100 * probability));
}

export function headline({ nearest }: Explanation): string {
  const copied = nearest.find((one) => one.copy);
  return copied ? tr('Almost a copy of {1}', copied.character) : tr('This character does not exist');
}

/** "金: metal, gold", as a share card says it. */
export function radicalInWords({ radical }: Explanation): string {
  return `${radical.character}: ${radical.meaning}`;
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, text = '', kind = ''): HTMLElementTagNameMap[K] {
  return Object.assign(document.createElement(tag), { textContent: text, className: kind });
}

/** A row: a character, what it means, and a quiet remark. */
function row(character: string, meaning: string, remark: string): HTMLLIElement {
  const item = element('li');
  const sign = element('span', character, 'sign');
  sign.lang = 'zh';
  const words = element('span', meaning, 'meaning');
  words.title = meaning;
  item.append(sign, words);
  if (remark) item.append(element('span', remark, 'remark'));
  return item;
}

let sheets: Promise<(Sheets & { order: string }) | null> | null = null;

/** Show a real character by its picture from the map's sheets: fonts may lack it. */
async function pictured(sign: HTMLElement, row: number | undefined, order: string | undefined): Promise<void> {
  if (!order) return; // the recorded drawings' characters have a font of their own
  sheets ??= fetch('data/sheets.json').then((answer) => (answer.ok ? answer.json() : null), () => null);
  const found = await sheets;
  if (!found || row === undefined || found.order !== order) return;
  sign.setAttribute('role', 'img');
  sign.setAttribute('aria-label', sign.textContent ?? '');
  sign.textContent = '';
  sign.classList.add('pictured');
  showGlyph(sign, found, row, 0.5);
}

/** Fill the place of the explanation; with null, say that there is none yet. */
export function explain(place: HTMLElement, found: Explanation | null): void {
  const at = (name: string) => place.querySelector(`[data-part="${name}"]`) as HTMLElement;
  place.classList.toggle('waiting', !found);
  if (!found) return;
  at('headline').textContent = headline(found);
  at('radical').replaceChildren(row(found.radical.character, found.radical.meaning, sure(found.radical.probability)));
  at('radical-title').hidden = false;
  at('parts').replaceChildren(...found.parts.slice(0, 3).map((part) => row(part.character, part.meaning, sure(part.probability))));
  at('parts-title').hidden = !found.parts.length;
  at('nearest').replaceChildren(
    ...found.nearest.slice(0, 3).map((one) => {
      const item = row(one.character, one.definition, '');
      void pictured(item.querySelector('.sign') as HTMLElement, one.row, found.order);
      return item;
    }),
  );
  at('nearest-title').hidden = !found.nearest.length;
}
