/** One Brownian path for a whole run: the twin of diffusion/brownian.py. */

import type { Noise } from './noise';
import type { Level } from './schedules';
import { type Picture, mix } from './vectors';

export const DEPTH = 20;

/** B over v = alpha^2 / sigma^2, found by halving [0, 1] in alpha / (alpha + sigma); node i of the tree takes draw i. */
export class Brownian {
  private known = new Map<number, Picture>();

  constructor(private readonly noise: Noise) {}

  /** The bridge at w in [0, 1]. */
  bridge(w: number): Picture {
    let [low, high, node] = [0, 1, 1];
    let atLow: Picture | null = null;
    let atHigh: Picture | null = null;
    const visited = new Map<number, Picture>();
    const between = (at: number): (readonly [number, Picture])[] => {
      const [a, m, b] = [clock(low), clock(at), clock(high)];
      const parts: (readonly [number, Picture])[] = [];
      if (atLow) parts.push([(b - m) / (b - a), atLow]);
      if (atHigh) parts.push([(m - a) / (b - a), atHigh]);
      return parts;
    };
    for (let k = 0; k < DEPTH; k++) {
      const middle = (low + high) / 2;
      let value = this.known.get(node);
      if (!value) {
        const [a, m, b] = [clock(low), clock(middle), clock(high)];
        value = mix([Math.sqrt(((m - a) * (b - m)) / (b - a)), this.noise(node)], ...between(middle));
      }
      visited.set(node, value);
      if (w < middle) [high, atHigh, node] = [middle, value, 2 * node];
      else [low, atLow, node] = [middle, value, 2 * node + 1];
    }
    this.known = visited;
    const parts = between(w);
    return mix(parts[0], ...parts.slice(1));
  }

  /** (B(v_s) - B(v_t)) / sqrt(v_s - v_t), standard normal, for the noisier t and the less noisy s. */
  normal(t: Level, s: Level): Picture {
    const motion = (at: Level): [number, Picture] => {
      const v = (at.alpha / at.sigma) ** 2;
      return [v, mix([1 + v, this.bridge(at.alpha / (at.alpha + at.sigma))])];
    };
    const [vt, bt] = motion(t);
    const [vs, bs] = motion(s);
    const scale = 1 / Math.sqrt(vs - vt);
    return mix([scale, bs], [-scale, bt]);
  }
}

function clock(w: number): number {
  return (w * w) / (w * w + (1 - w) * (1 - w));
}
