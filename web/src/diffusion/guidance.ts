/** Classifier-free guidance: the twin of `cfg` and `clamped` in diffusion/guidance.py. */

import type { Denoise, Estimate } from './samplers';
import type { Level } from './schedules';
import { type Picture, mix } from './vectors';

/** Estimates for several conditions of one picture, made in one call. */
export type DenoiseEach = (x: Picture, level: Level, given: readonly boolean[]) => Promise<Estimate[]>;

/** Guidance applies while the noise share, sigma / (alpha + sigma), is at least this: `Guidance.low` in core/sampling.py. */
export const LOW = 0.5;

/** uncond + scale * (cond - uncond) (arXiv:2207.12598, eq. 6); scales 0 and 1 cost one row instead of two. */
export function cfg(model: DenoiseEach, scale: number, low = 0): Denoise {
  return composed((x, level, rows) => model(x, level, rows.map((row) => row !== null)), [1], scale, low);
}

/** Estimates for the conditions of these numbers (null: no condition at all), made in one call. */
export type DenoiseRows = (x: Picture, level: Level, rows: readonly (number | null)[]) => Promise<Estimate[]>;

/**
 * base + scale * sum_i weight_i * (wanted_i - base), the base unconditional: `composed` in diffusion/guidance.py, with the scale
 * 1 below the noise share `low`.
 */
export function composed(model: DenoiseRows, weights: readonly number[], usual: number, low = 0): Denoise {
  if (!(Number.isFinite(usual) && usual >= 0)) throw new RangeError(`guidance scale ${usual} is out of range; use 0 or more`);
  const alone = weights.length === 1 && weights[0] === 1;
  return async (x, level) => {
    if (usual === 0) return (await model(x, level, [null]))[0];
    const scale = level.sigma < (low - 1e-9) * (level.alpha + level.sigma) ? 1 : usual;
    if (alone && scale === 1) return (await model(x, level, [0]))[0];
    const all = await model(x, level, [...weights.keys(), null]);
    const base = all[weights.length];
    const sum = (view: 'x0' | 'eps') =>
      mix([1 - scale * weights.reduce((a, b) => a + b, 0), base[view]], ...weights.map((w, i) => [scale * w, all[i][view]] as const));
    return { x0: sum('x0'), eps: sum('eps') };
  };
}

/** x0_hat with what is known put in where the mask is 1, and eps_hat to agree: `inpainted` in diffusion/guidance.py. */
export function inpainted(denoise: Denoise, known: Picture, mask: Uint8Array): Denoise {
  return async (x, level) => {
    const guess = await denoise(x, level);
    const [x0, eps] = [guess.x0.slice(), guess.eps.slice()];
    for (let i = 0; i < x.length; i++) {
      if (!mask[i % mask.length]) continue;
      x0[i] = known[i];
      eps[i] = (x[i] - level.alpha * known[i]) / level.sigma;
    }
    return { x0, eps };
  };
}

/** x0_hat held within [low, high], and eps_hat made to agree with it. */
export function clamped(denoise: Denoise, low: number, high: number): Denoise {
  return async (x, level) => {
    const x0 = (await denoise(x, level)).x0.map((v) => Math.min(Math.max(v, low), high));
    return { x0, eps: mix([1 / level.sigma, x], [-level.alpha / level.sigma, x0]) };
  };
}
