/** A mixture's noised density on a square grid: the fast twin of `logDensity` for parts that are round and equally wide. */

import type { Part } from '../diffusion/mixture';
import type { Level } from '../diffusion/schedules';

/**
 * q_t at the centres of `cells` x `cells` squares that cover [-reach, reach]^2, row by row from the top, divided by its largest
 * value. Each bell is the product of one along x and one along y, so the exponentials are few.
 */
export function densityOnGrid(mixture: readonly Part[], level: Level, cells: number, reach: number): Float64Array {
  const at = Array.from({ length: cells }, (_, i) => ((2 * (i + 0.5)) / cells - 1) * reach);
  const values = new Float64Array(cells * cells);
  for (const { mean, std, weight } of mixture) {
    const variance = level.alpha ** 2 * std ** 2 + level.sigma ** 2;
    const bell = (v: number, k: number) => Math.exp(-((v - level.alpha * mean[k]) ** 2) / (2 * variance));
    const across = at.map((v) => (weight / variance) * bell(v, 0));
    const down = at.map((v) => bell(-v, 1));
    for (let y = 0, i = 0; y < cells; y++) for (let x = 0; x < cells; x++, i++) values[i] += down[y] * across[x];
  }
  const top = values.reduce((a, b) => Math.max(a, b), 0);
  return top > 0 ? values.map((v) => v / top) : values;
}
