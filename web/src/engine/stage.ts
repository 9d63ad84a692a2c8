/** Super-resolution stages: the twins of model/stage.py and of `enlarge` in pipeline/drawing.py. */

import type { Noise } from '../diffusion/noise';
import { mix } from '../diffusion/vectors';

/** A stage in model.json. */
export interface StageCard {
  size: number;
  factor: number;
  steps: number;
  noise: number;
  schedule: string;
  bounds: [number, number];
}

const DRAWS = 2 ** 32; // draws of noise that are reserved for each stage

/** A picture [C, s, s] enlarged by bilinear interpolation. */
export function enlarged(pixels: Float32Array, channels: number, factor: number): Float32Array {
  const side = Math.round(Math.sqrt(pixels.length / channels));
  const large = side * factor;
  const places = Array.from({ length: large }, (_, i) => {
    const at = Math.max((i + 0.5) / factor - 0.5, 0);
    const low = Math.floor(at);
    return [low, Math.min(low + 1, side - 1), at - low] as const;
  });
  const out = new Float32Array(channels * large * large);
  for (let c = 0; c < channels; c++) {
    const of = (y: number, x: number) => pixels[(c * side + y) * side + x];
    places.forEach(([top, bottom, down], y) => {
      places.forEach(([left, right, across], x) => {
        const above = of(top, left) * (1 - across) + of(top, right) * across;
        const below = of(bottom, left) * (1 - across) + of(bottom, right) * across;
        out[(c * large + y) * large + x] = above * (1 - down) + below * down;
      });
    });
  }
  return out;
}

/** What the first stage sees of a picture, the noise that it starts from, and its further noise. */
export function beginning(pixels: Float32Array, channels: number, stage: StageCard, noise: Noise) {
  const lower = mix([1 - stage.noise, enlarged(pixels, channels, stage.factor)], [stage.noise, noise(DRAWS)]);
  return { lower: Float32Array.from(lower), first: noise(DRAWS + 1), further: ((draw) => noise(DRAWS + 1 + draw)) as Noise };
}
