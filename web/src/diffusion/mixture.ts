/** A Gaussian mixture in the plane, whose noised density, score and best denoiser are known: diffusion/mixture.py's twin. */

import type { Estimate } from './samplers';
import type { Level } from './schedules';

export interface Part {
  mean: readonly number[];
  std: number;
  weight: number;
}

function parts(mixture: readonly Part[], x: ArrayLike<number>, level: Level) {
  return mixture.map((p) => {
    const variance = level.alpha ** 2 * p.std ** 2 + level.sigma ** 2;
    const difference = p.mean.map((m, i) => x[i] - level.alpha * m);
    const square = difference.reduce((sum, d) => sum + d * d, 0);
    const log = Math.log(p.weight) - square / (2 * variance) - (p.mean.length / 2) * Math.log(variance);
    return { log, difference, variance };
  });
}

function logSumExp(values: number[]): number {
  const top = Math.max(...values);
  return top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
}

/** log q_t(x), up to a constant. */
export function logDensity(mixture: readonly Part[], x: ArrayLike<number>, level: Level): number {
  return logSumExp(parts(mixture, x, level).map((p) => p.log));
}

/** E[x0 | x_t], and the noise that agrees with it. */
export function denoise(mixture: readonly Part[], x: ArrayLike<number>, level: Level): { x0: number[]; eps: number[] } {
  const found = parts(mixture, x, level);
  const all = logSumExp(found.map((p) => p.log));
  const x0 = Array.from(x, (_, i) =>
    found.reduce((sum, p, k) => {
      const { mean, std } = mixture[k];
      const each = mean[i] + ((level.alpha * std ** 2) / p.variance) * p.difference[i];
      return sum + Math.exp(p.log - all) * each;
    }, 0),
  );
  return { x0, eps: x0.map((v, i) => (x[i] - level.alpha * v) / level.sigma) };
}

/** The gradient of log q_t at x: -eps_hat / sigma. */
export function score(mixture: readonly Part[], x: ArrayLike<number>, level: Level): number[] {
  return denoise(mixture, x, level).eps.map((e) => -e / level.sigma);
}

/** As samplers want it. */
export function estimate(mixture: readonly Part[], x: ArrayLike<number>, level: Level): Estimate {
  const guess = denoise(mixture, x, level);
  return { x0: Float64Array.from(guess.x0), eps: Float64Array.from(guess.eps) };
}
