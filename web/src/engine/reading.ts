/** What the text encoder will make of a prompt: the twin of `glossed` in data/unihan.py and of the readings in text/encoders.py. */

import type { Reading } from './messages';

const LONGEST = 12; // characters
const HAN = /^\p{Script=Han}$/u;

/** Whether a prompt may be read character by character, so that their meanings are worth fetching. */
export const isChinese = (prompt: string) => letters(prompt).length > 0 && letters(prompt).every((c) => HAN.test(c));

const letters = (prompt: string) => [...prompt].filter((c) => !/[\s\p{P}]/u.test(c));

/** A prompt of Chinese characters by their meanings; any other as it stands, with the words that the encoder does not know. */
export function reading(prompt: string, meanings: Record<string, string[]> | null, known: (word: string) => boolean): Reading {
  const found = letters(prompt);
  if (meanings && found.length && found.length <= LONGEST && isChinese(prompt)) {
    const senses = found.map((c) => meanings[c.normalize('NFKC')] ?? meanings[c]);
    if (senses.every((some) => some?.length)) {
      const glosses = new Map(found.map((c, i) => [c, (found.length === 1 ? senses[i] : senses[i].slice(0, 1)).join(', ')]));
      return { text: [...glosses.values()].join(', '), unknown: [], note: [...glosses].map(([c, gloss]) => `${c}: ${gloss}`).join('; ') };
    }
  }
  const words = prompt.match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
  return { text: prompt, unknown: [...new Set(words.filter((word) => !isLatin(word) || !known(word)))], note: null };
}

/** Whether a word's letters are Latin (accents fold), but for one Greek letter, as in 5 µm. */
export function isLatin(word: string): boolean {
  const others = [...word.normalize('NFKD')].filter((c) => /\p{L}/u.test(c) && !/\p{Script=Latin}|\p{Lm}/u.test(c));
  return !others.length || (others.length === 1 && /\p{Script=Greek}/u.test(others[0]));
}
