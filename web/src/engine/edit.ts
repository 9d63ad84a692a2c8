/** Starting from a picture: the twins of what `draw` in pipeline/drawing.py does with `init`, `strength` and `mask`. */

import type { Level } from '../diffusion/schedules';
import type { Half } from './messages';
import { type Picture, mix } from '../diffusion/vectors';

/** A picture [C, S, S] with each side divided by `factor`, by averaging. */
export function shrunk(pixels: Float32Array, channels: number, factor: number): Float32Array {
  if (factor === 1) return pixels;
  const size = Math.round(Math.sqrt(pixels.length / channels));
  const side = size / factor;
  const out = new Float32Array(channels * side * side);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        out[(c * side + Math.floor(y / factor)) * side + Math.floor(x / factor)] += pixels[(c * size + y) * size + x] / factor ** 2;
      }
    }
  }
  return out;
}

/** 1 where a half of a picture of this side is kept. */
export function halfMask(keep: Half, side: number): Uint8Array {
  const across = { left: (x: number) => x < side / 2, right: (x: number) => x >= side / 2 };
  const inside = (x: number, y: number) => (keep === 'top' ? across.left(y) : keep === 'bottom' ? across.right(y) : across[keep](x));
  return Uint8Array.from({ length: side * side }, (_, i) => (inside(i % side, Math.floor(i / side)) ? 1 : 0));
}

/** x at the first level: noise, and what is known of the picture. */
export function start(noise: Float32Array, level: Level, known?: Float32Array): Picture {
  return known ? mix([level.sigma, noise], [level.alpha, known]) : noise.map((v) => level.sigma * v);
}
