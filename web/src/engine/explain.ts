/** What a glyph says, from what the judging network answers: the twin of guide/explain.py. */

import type { Explanation } from './messages';

export interface Names {
  radicals: [string, string, string][]; // character, meaning, and the pieces that it is itself made of
  structures: string[];
  parts: [string, string][];
}
export interface Relatives {
  characters: string;
  order: string;
  mean: number[];
  project: number[];
  directions: number;
  scale: number;
  copy: number;
}
export interface Answers {
  features: ArrayLike<number>;
  radical: ArrayLike<number>;
  structure: ArrayLike<number>;
  parts: ArrayLike<number>;
}

const LEAST = 0.3; // parts less likely than this are not named

export function explanation(
  said: Answers,
  names: Names,
  relatives: Relatives,
  rows: Int8Array,
  meanings: Record<string, string[]>,
  count = 4,
): Explanation {
  const [radical, likelyRadical] = best(said.radical);
  const [structure, likelyStructure] = best(said.structure);
  const pieces = new Set(names.radicals[radical][2]);
  const likely = Array.from(said.parts, (v) => 1 / (1 + Math.exp(-v)));
  const parts = likely
    .map((_, i) => i)
    .filter((i) => likely[i] > LEAST && !pieces.has(names.parts[i][0]))
    .sort((a, b) => likely[b] - likely[a])
    .slice(0, 5);
  const named = ([character, meaning]: readonly string[], probability: number) => ({ character, meaning, probability });
  const characters = [...relatives.characters];
  return {
    radical: named(names.radicals[radical], likelyRadical),
    structure: { name: names.structures[structure], probability: likelyStructure },
    parts: parts.map((i) => named(names.parts[i], likely[i])),
    nearest: nearest(said.features, relatives, rows, count).map(([i, distance]) => ({
      character: characters[i],
      definition: (meanings[characters[i]] ?? []).slice(0, 3).join(', '),
      distance,
      copy: distance < relatives.copy,
      row: i,
    })),
    order: relatives.order,
  };
}

/** Index and softmax of the largest logit. */
function best(logits: ArrayLike<number>): [number, number] {
  let at = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[at]) at = i;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - logits[at]);
  return [at, 1 / sum];
}

/** The rows nearest to some features, with their distances. */
function nearest(features: ArrayLike<number>, table: Relatives, rows: Int8Array, count: number): [number, number][] {
  const { mean, project, directions, scale } = table;
  const at = new Float64Array(directions);
  for (let i = 0; i < features.length; i++) {
    const v = (127 * (features[i] - mean[i])) / scale;
    for (let k = 0; k < directions; k++) at[k] += v * project[i * directions + k];
  }
  const found: [number, number][] = [];
  for (let i = 0; i < rows.length / directions; i++) {
    let square = 0;
    for (let k = 0; k < directions; k++) square += (rows[i * directions + k] - at[k]) ** 2;
    if (found.length < count || square < found[found.length - 1][1]) {
      const place = found.findIndex(([, other]) => square < other);
      found.splice(place < 0 ? found.length : place, 0, [i, square]);
      found.length = Math.min(found.length, count);
    }
  }
  return found.map(([i, square]) => [i, Math.sqrt(square)]);
}
