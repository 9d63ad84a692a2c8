/** Noise schedules and time grids: the twins of diffusion/schedules.py and diffusion/levels.py. */

export const T = 1000;
/** Ends of the log-SNR grids in sigma / alpha: EDM's sigma_max and sigma_min (arXiv:2206.00364, table 1). */
const [NOISIEST, CLEANEST] = [80, 0.002];

/** How noisy a picture is: x_t = alpha * x0 + sigma * eps, at time t in [0, T]. */
export interface Level {
  t: number;
  alpha: number;
  sigma: number;
}

/** DDPM's schedule: betas rise linearly from 1e-4 to 0.02 (arXiv:2006.11239, sec. 4). */
export function linearAlphaBar(): Float64Array {
  return cumulative((k) => 1e-4 + ((0.02 - 1e-4) * k) / (T - 1));
}

/** Improved DDPM's schedule, betas capped at 0.999 (arXiv:2102.09672, eq. 17). */
export function cosineAlphaBar(): Float64Array {
  const f = (t: number) => Math.cos((((t / T + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  return cumulative((k) => Math.min(1 - f(k + 1) / f(k), 0.999));
}

function cumulative(beta: (k: number) => number): Float64Array {
  const bar = new Float64Array(T + 1);
  bar[0] = 1;
  for (let k = 0; k < T; k++) bar[k + 1] = bar[k] * (1 - beta(k));
  return bar;
}

/** A path from clean (t = 0) to noise (t = T): tabled at the integers, log-SNR interpolated; `linear_path` in closed form. */
export class Schedule {
  private readonly logsnrs: Float64Array | null;

  constructor(
    readonly name: string,
    readonly alphaBar: Float64Array | null,
  ) {
    this.logsnrs = alphaBar && alphaBar.slice(1).map((bar) => Math.log(bar) - Math.log1p(-bar));
  }

  level(t: number): Level {
    if (!(t >= 0 && t <= T)) throw new RangeError(`time ${t} is outside [0, ${T}]`);
    if (!this.alphaBar || !this.logsnrs) return { t, alpha: 1 - t / T, sigma: t / T };
    if (t < 1) {
      const variance = t * (1 - this.alphaBar[1]);
      return { t, alpha: Math.sqrt(1 - variance), sigma: Math.sqrt(variance) };
    }
    const k = Math.min(Math.floor(t), T - 1);
    const value = this.logsnrs[k - 1] + (this.logsnrs[k] - this.logsnrs[k - 1]) * (t - k);
    return { t, alpha: Math.sqrt(1 / (1 + Math.exp(-value))), sigma: Math.sqrt(1 / (1 + Math.exp(value))) };
  }

  /** The time at which log(alpha^2 / sigma^2) is `value`, or the nearest end. */
  time(value: number): number {
    if (!this.alphaBar || !this.logsnrs) return T / (1 + Math.exp(Math.min(value / 2, 700)));
    const table = this.logsnrs;
    if (value > table[0]) return 1 / (1 + Math.exp(Math.min(value, 700))) / (1 - this.alphaBar[1]);
    if (value <= table[T - 1]) return T;
    let [low, high] = [0, T - 1]; // table[low] >= value > table[high]
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (table[middle] >= value) low = middle;
      else high = middle;
    }
    return low + 1 + (table[low] - value) / (table[low] - table[high]);
  }
}

export function schedule(name: string): Schedule {
  if (name === 'linear') return new Schedule(name, linearAlphaBar());
  if (name === 'cosine') return new Schedule(name, cosineAlphaBar());
  if (name === 'linear_path') return new Schedule(name, null);
  throw new RangeError(`unknown schedule '${name}'`);
}

/** log(alpha^2 / sigma^2): +inf when clean, -inf where no picture is left. */
export function logsnr(level: Level): number {
  if (level.sigma === 0) return Infinity;
  return level.alpha > 0 ? 2 * (Math.log(level.alpha) - Math.log(level.sigma)) : -Infinity;
}

/** alpha^2 / (alpha^2 + sigma^2): how much of the power of x_t is the picture's, in [0, 1]; alpha_bar on linear and cosine. */
export function signal(level: Level): number {
  return level.alpha ** 2 / (level.alpha ** 2 + level.sigma ** 2);
}

/** n + 1 levels, strictly from noisy to clean; `logsnr` and `karras` have EDM's ends, or the schedule's if those are nearer. */
export function levels(path: Schedule, n: number, grid = 'uniform'): Level[] {
  if (!(Number.isInteger(n) && n >= 1 && n <= 1000)) throw new RangeError(`${n} steps are out of range; use 1 to 1000`);
  const uniform = (k: number) => T - (T * k) / n;
  const ends = (): [number, number] => [
    Math.max(logsnr(path.level(T)), -2 * Math.log(NOISIEST)),
    Math.min(logsnr(path.level(1)), -2 * Math.log(CLEANEST)),
  ];
  const along = (k: number, a: number, b: number) => (n === 1 ? a : a + ((b - a) * k) / (n - 1));
  const times: Record<string, (k: number) => number> = {
    uniform,
    trailing: (k) => roundHalfEven(uniform(k)),
    logsnr: (k) => path.time(along(k, ...ends())),
    karras: (k) => {
      const [noisy, clean] = ends().map((v) => Math.exp(-v / 2) ** (1 / 7));
      return path.time(-14 * Math.log(along(k, noisy, clean)));
    },
  };
  if (!(grid in times)) throw new RangeError(`unknown grid '${grid}'`);
  return [...Array.from({ length: n }, (_, k) => times[grid](k)), 0].map((t) => path.level(t));
}

function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
