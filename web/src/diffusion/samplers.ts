/** Samplers: each walks a list of levels from noise to a picture. The twins of diffusion/samplers.py, line by line. */

import { Brownian } from './brownian';
import type { Noise } from './noise';
import { type Level, logsnr } from './schedules';
import { type Picture, mix } from './vectors';

/** A denoiser's one guess in two views: the clean picture and the noise. */
export interface Estimate {
  x0: Picture;
  eps: Picture;
}
export type Denoise = (x: Picture, level: Level) => Promise<Estimate>;
export type OnStep = (level: Level, x: Picture, guess: Estimate) => void | Promise<void>;
export type Sampler = (denoise: Denoise, x: Picture, levels: readonly Level[], noise: Noise, onStep?: OnStep) => Promise<Picture>;

/** Ancestral sampling from q(x_s | x_t, x0_hat) (arXiv:2006.11239, algorithm 2 and eq. 7). */
export const ddpm: Sampler = async (denoise, x, levels, noise, onStep) => {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    const p = posterior(t, s);
    x = mix([p.x0, guess.x0], [p.x, rejoined(guess, t)]);
    if (p.std > 0) x = mix([1, x], [p.std, noise(i + 1)]);
  }
  return x;
};

/** x_s = alpha_s * x0_hat + sigma_s * eps_hat (arXiv:2010.02502, eq. 12 with eta = 0). */
export const ddim: Sampler = async (denoise, x, levels, _noise, onStep) => {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    x = mix([s.alpha, guess.x0], [s.sigma, guess.eps]);
  }
  return x;
};

/** Euler's method on dx = x0_hat d(alpha) + eps_hat d(sigma) (arXiv:2206.00364, algorithm 1). */
export const euler: Sampler = async (denoise, x, levels, _noise, onStep) => {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    x = mix([1, rejoined(guess, t)], [1, change(t, s, guess)]);
  }
  return x;
};

/**
 * Heun's method on the same ODE: the mean of the slopes at both ends of a step; one call where it ends clean.
 * It steps x in (alpha, sigma), EDM's algorithm x / alpha in sigma / alpha.
 */
export const heun: Sampler = async (denoise, x, levels, _noise, onStep) => {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    x = rejoined(guess, t);
    let step = change(t, s, guess);
    if (s.sigma > 0) {
      const later = await denoise(mix([1, x], [1, step]), s);
      step = mix([0.5, step], [0.5, change(t, s, later)]);
    }
    x = mix([1, x], [1, step]);
  }
  return x;
};

/** DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2): one call a step, second order in half the log-SNR. */
export const dpmpp2m: Sampler = async (denoise, x, levels, _noise, onStep) => {
  let last: { x0: Picture; h: number } | null = null;
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    const h = half(t, s);
    const d = halfwayAhead(guess.x0, h, last);
    x = mix([s.sigma / t.sigma, rejoined(guess, t)], [-s.alpha * Math.expm1(-h), d]);
    last = { x0: guess.x0, h };
  }
  return x;
};

/** SDE-DPM-Solver++(2M) in its midpoint form, on one Brownian path. */
export const dpmpp2mSde: Sampler = async (denoise, x, levels, noise, onStep) => {
  const path = new Brownian(noise);
  let last: { x0: Picture; h: number } | null = null;
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    const h = half(t, s);
    const d = halfwayAhead(guess.x0, h, last);
    x = ancestral(d, rejoined(guess, t), t, s, path);
    last = { x0: guess.x0, h };
  }
  return x;
};

/** DPM-Solver++(2S) for the reverse SDE: a step spans two levels and looks first at the middle one. */
export const dpmppSde: Sampler = async (denoise, x, levels, noise, onStep) => {
  const path = new Brownian(noise);
  for (let i = 0; i + 1 < levels.length; i += 2) {
    const [t, m] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    x = rejoined(guess, t);
    const between = ancestral(guess.x0, x, t, m, path);
    if (i + 2 === levels.length) return between;
    const s = levels[i + 2];
    const later = await denoise(between, m);
    await onStep?.(m, between, later);
    const r = (logsnr(m) - logsnr(t)) / (logsnr(s) - logsnr(t));
    x =
      r > 0 && r < 1
        ? ancestral(mix([1 - 1 / (2 * r), guess.x0], [1 / (2 * r), later.x0]), x, t, s, path)
        : ancestral(later.x0, rejoined(later, m), m, s, path);
  }
  return x;
};

/** UniPC-2 with B(h) = e^h - 1 (arXiv:2302.04867): predict at order 2, correct to order 3 with the next call. */
export const unipc: Sampler = async (denoise, x, levels, _noise, onStep) => {
  let steps: { level: Level; x: Picture; x0: Picture }[] = [];
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    x = rejoined(guess, t);
    const last = steps.at(-1);
    const gone = last ? half(last.level, t) : Infinity;
    if (last && Number.isFinite(gone)) x = corrected(steps, guess.x0, t, gone);
    const h = half(t, s);
    const d = halfwayAhead(guess.x0, h, last ? { x0: last.x0, h: gone } : null);
    steps = [...steps.slice(-1), { level: t, x, x0: guess.x0 }];
    x = mix([s.sigma / t.sigma, x], [-s.alpha * Math.expm1(-h), d]);
  }
  return x;
};

/** x_s = alpha_s * x0_hat + sigma_s * noise, for distilled models (arXiv:2303.01469, algorithm 1). */
export const consistency: Sampler = async (denoise, x, levels, noise, onStep) => {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [t, s] = [levels[i], levels[i + 1]];
    const guess = await denoise(x, t);
    await onStep?.(t, x, guess);
    x = s.sigma > 0 ? mix([s.alpha, guess.x0], [s.sigma, noise(i + 1)]) : mix([s.alpha, guess.x0]);
  }
  return x;
};

function corrected(steps: { level: Level; x: Picture; x0: Picture }[], now: Picture, s: Level, h: number): Picture {
  const { level: t, x, x0 } = steps[steps.length - 1];
  const phi1 = Math.expm1(-h);
  const b1 = (phi1 / -h - 1) / phi1;
  const b2 = (2 * ((phi1 / -h - 1) / -h - 0.5)) / phi1;
  let correction = mix([0.5, now], [-0.5, x0]);
  const before = steps.length > 1 ? half(steps[steps.length - 2].level, t) : Infinity;
  if (Number.isFinite(before)) {
    const r = -before / h;
    const rho = (b1 - b2) / (1 - r);
    const older = mix([1, steps[steps.length - 2].x0], [-1, x0]);
    correction = mix([rho / r, older], [b1 - rho, mix([1, now], [-1, x0])]);
  }
  return mix([s.sigma / t.sigma, x], [-s.alpha * phi1, mix([1, x0], [1, correction])]);
}

/** alpha * x0_hat + sigma * eps_hat: the x_t that the estimate belongs to. */
export function rejoined(guess: Estimate, t: Level): Picture {
  return mix([t.alpha, guess.x0], [t.sigma, guess.eps]);
}

/** The posterior q(x_s | x_t, x0): what its mean takes of x0 and of x_t, and its deviation (as diffusion/process.py). */
export function posterior(t: Level, s: Level): { x0: number; x: number; std: number } {
  const ratio = (t.alpha * s.sigma) / (s.alpha * t.sigma);
  return {
    x0: s.alpha * (1 - ratio * ratio),
    x: (ratio * s.sigma) / t.sigma,
    std: s.sigma * Math.sqrt(Math.max(1 - ratio * ratio, 0)),
  };
}

function half(t: Level, s: Level): number {
  return (logsnr(s) - logsnr(t)) / 2;
}

function halfwayAhead(x0: Picture, h: number, last: { x0: Picture; h: number } | null): Picture {
  if (!last || !Number.isFinite(h) || !Number.isFinite(last.h)) return x0;
  const more = h / (2 * last.h);
  return mix([1 + more, x0], [-more, last.x0]);
}

function change(t: Level, s: Level, guess: Estimate): Picture {
  return mix([s.alpha - t.alpha, guess.x0], [s.sigma - t.sigma, guess.eps]);
}

function ancestral(x0: Picture, x: Picture, t: Level, s: Level, path: Brownian): Picture {
  const p = posterior(t, s);
  const mean = mix([p.x0, x0], [p.x, x]);
  return p.std > 0 ? mix([1, mean], [p.std, path.normal(t, s)]) : mean;
}

export const SAMPLERS: Record<string, Sampler> = {
  ddpm,
  ddim,
  euler,
  heun,
  'dpmpp-2m': dpmpp2m,
  'dpmpp-2m-sde': dpmpp2mSde,
  'dpmpp-sde': dpmppSde,
  unipc,
  consistency,
};
