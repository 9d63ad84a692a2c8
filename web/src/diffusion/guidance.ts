/** Classifier-free guidance: the twin of `cfg` and `clamped` in diffusion/guidance.py. */

import type { Denoise, Estimate } from './samplers';
import type { Level } from './schedules';
import { type Picture, mix } from './vectors';

/** Estimates for several conditions of one picture, made in one call. */
export type DenoiseEach = (x: Picture, level: Level, given: readonly boolean[]) => Promise<Estimate[]>;

/** uncond + scale * (cond - uncond) (arXiv:2207.12598, eq. 6); scales 0 and 1 cost one row instead of two. */
export function cfg(model: DenoiseEach, scale: number): Denoise {
  if (!(Number.isFinite(scale) && scale >= 0)) throw new RangeError(`guidance scale ${scale} is out of range; use 0 or more`);
  return async (x, level) => {
    if (scale === 0 || scale === 1) return (await model(x, level, [scale === 1]))[0];
    const [cond, base] = await model(x, level, [true, false]);
    return {
      x0: mix([1 - scale, base.x0], [scale, cond.x0]),
      eps: mix([1 - scale, base.eps], [scale, cond.eps]),
    };
  };
}

/** x0_hat held within [low, high], and eps_hat made to agree with it. */
export function clamped(denoise: Denoise, low: number, high: number): Denoise {
  return async (x, level) => {
    const x0 = (await denoise(x, level)).x0.map((v) => Math.min(Math.max(v, low), high));
    return { x0, eps: mix([1 / level.sigma, x], [-level.alpha / level.sigma, x0]) };
  };
}
