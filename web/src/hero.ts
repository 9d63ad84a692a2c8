/** The recorded drawings that the page opens with: the guesses of each step, from which the noisy pictures follow. */

import { pictureNoise } from './diffusion/noise';
import { SAMPLERS } from './diffusion/samplers';
import { levels, schedule } from './diffusion/schedules';
import { mix } from './diffusion/vectors';
import { fromBase64, unpacked } from './engine/files';
import type { Explanation, Step } from './engine/messages';
import { START, type Wanted, toLink, withSeed } from './links';

/** data/hero.json */
export interface Packed {
  prompt: string;
  seed: number;
  steps: number;
  sampler: string;
  guidance: number;
  schedule: string;
  shape: [number, number, number];
  size: number;
  seeds: number[];
  tones: number;
  explanations: Explanation[] | null;
  pictures: string;
}

const FINE = 63; // grey values, less one, of the finished pictures

export class Recording {
  /** By seed: the guess of each step as grey values from 0 to `about.tones`. */
  readonly guesses = new Map<number, Uint8Array[]>();
  /** By seed: the finished picture in [-1, 1]. */
  readonly finished = new Map<number, Float32Array>();

  constructor(
    readonly about: Packed,
    bytes: Uint8Array,
  ) {
    const { seeds, steps, shape, size } = about;
    const [small, large] = [shape.reduce((a, b) => a * b), shape[0] * size * size];
    if (bytes.length !== seeds.length * (steps * small + large)) throw new Error('the recording is damaged; build the guide again');
    seeds.forEach((seed, k) => {
      const guesses: Uint8Array[] = [];
      for (let step = 0; step < steps; step++) {
        const guess = bytes.slice((k * steps + step) * small, (k * steps + step + 1) * small); // the change from the one before
        if (step) for (let i = 0; i < small; i++) guess[i] += guesses[step - 1][i];
        guesses.push(guess);
      }
      this.guesses.set(seed, guesses);
      const at = seeds.length * steps * small + k * large;
      this.finished.set(seed, unit(bytes.subarray(at, at + large), FINE));
    });
  }

  get wanted(): Wanted {
    const { prompt, seed, steps, sampler, guidance } = this.about;
    return { ...START, prompt, seed, steps, sampler, guidance };
  }

  /** Whether these very settings were recorded. */
  holds(wanted: Wanted): boolean {
    return this.finished.has(wanted.seed) && toLink(wanted) === toLink(withSeed(this.wanted, wanted.seed));
  }

  explanation(seed: number): Explanation | null {
    return this.about.explanations?.[this.about.seeds.indexOf(seed)] ?? null;
  }

  /** The steps of a drawing, noise included, as an engine sends them. */
  async steps(seed: number): Promise<Step[]> {
    const { schedule: name, steps, sampler, shape, tones } = this.about;
    const guesses = this.guesses.get(seed) as Uint8Array[];
    const path = levels(schedule(name), steps);
    const noise = pictureNoise(seed, 0, shape.reduce((a, b) => a * b));
    const made: Step[] = [];
    await SAMPLERS[sampler](
      async (x, level) => {
        await new Promise((done) => setTimeout(done)); // the page goes first
        const x0 = unit(guesses[made.length], tones);
        return { x0, eps: mix([1 / level.sigma, x], [-level.alpha / level.sigma, x0]) };
      },
      noise(0).map((v) => path[0].sigma * v),
      path,
      noise,
      (level, x, guess) => {
        made.push({ t: level.t, x: Float32Array.from(x), x0: Float32Array.from(guess.x0), eps: Float32Array.from(guess.eps) });
      },
    );
    return made;
  }
}

function unit(values: Uint8Array, top: number): Float32Array {
  const made = new Float32Array(values.length);
  for (let i = 0; i < made.length; i++) made[i] = (2 * values[i]) / top - 1;
  return made;
}

export async function loadRecording(url: string): Promise<Recording> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} could not be loaded (${answer.status}); build the guide again`);
  const about: Packed = await answer.json();
  return new Recording(about, await unpacked(fromBase64(about.pictures)));
}
