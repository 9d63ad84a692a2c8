/** A denoiser for points in a plane, small enough to be trained while somebody watches. */

import { standardNormal } from './noise';
import type { Denoise } from './samplers';
import { type Level, T, schedule } from './schedules';
import type { Picture } from './vectors';

const WIDTH = 64; // of both hidden layers
const WAVES = 4; // of the timestep embedding, each a sine and a cosine
const INPUTS = 2 + 2 * WAVES;
const SHAPES = [
  [INPUTS, WIDTH],
  [WIDTH, WIDTH],
  [WIDTH, 2],
] as const;
const BATCH = 64;
const RATE = 3e-3;
const AVERAGE = 0.99; // of the weights that draw

/** A layer: weights [in, out] and a bias, their moments for Adam (arXiv:1412.6980), and their moving average. */
interface Layer {
  values: Float64Array;
  gradient: Float64Array;
  first: Float64Array;
  second: Float64Array;
  average: Float64Array;
}

const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));

export class Tiny {
  readonly path = schedule('linear_path');
  steps = 0;
  private readonly layers: Layer[];

  constructor(private readonly seed = 0) {
    this.layers = SHAPES.map(([inputs, outputs], i) => {
      const count = inputs * outputs + outputs;
      const normal = standardNormal(seed, i, 0, count);
      const values = Float64Array.from({ length: count }, (_, k) => (k < inputs * outputs ? normal[k] * Math.sqrt((i < 2 ? 2 : 0.1) / inputs) : 0));
      const empty = () => new Float64Array(count);
      return { values, gradient: empty(), first: empty(), second: empty(), average: values.slice() };
    });
  }

  /** What the network sees: the point, and its time as waves. */
  private inputs(x: ArrayLike<number>, t: number, into: Float64Array, at: number): void {
    into[at] = x[0];
    into[at + 1] = x[1];
    for (let k = 0; k < WAVES; k++) {
      const angle = (Math.PI * 2 ** k * t) / T / 2;
      into[at + 2 + 2 * k] = Math.sin(angle);
      into[at + 3 + 2 * k] = Math.cos(angle);
    }
  }

  /** Every layer's sums for `rows` points; SiLU stands between the layers. */
  private sums(input: Float64Array, rows: number, weights: 'values' | 'average'): Float64Array[] {
    let x = input;
    return SHAPES.map(([inputs, outputs], i) => {
      const values = this.layers[i][weights];
      const out = new Float64Array(rows * outputs);
      for (let r = 0; r < rows; r++) {
        for (let o = 0; o < outputs; o++) out[r * outputs + o] = values[inputs * outputs + o];
        for (let k = 0; k < inputs; k++) {
          const v = i ? x[r * inputs + k] * sigmoid(x[r * inputs + k]) : x[r * inputs + k];
          for (let o = 0; o < outputs; o++) out[r * outputs + o] += v * values[k * outputs + o];
        }
      }
      x = out;
      return out;
    });
  }

  /** One training step on points: noise them, guess the clean ones, compare, and correct every weight a little. Returns the loss. */
  step(points: readonly (readonly number[])[]): number {
    const random = standardNormal(this.seed, ++this.steps, 1, 4 * BATCH);
    const input = new Float64Array(BATCH * INPUTS);
    const clean = new Float64Array(BATCH * 2);
    for (let r = 0; r < BATCH; r++) {
      const [pick, when] = [random[4 * r], random[4 * r + 1]].map((v) => sigmoid(1.702 * v)); // nearly uniform
      const x0 = points[Math.min(Math.floor(pick * points.length), points.length - 1)];
      const { t, alpha, sigma } = this.path.level(T * when);
      clean.set(x0, 2 * r);
      this.inputs([0, 1].map((k) => alpha * x0[k] + sigma * random[4 * r + 2 + k]), t, input, r * INPUTS);
    }
    const sums = this.sums(input, BATCH, 'values');
    let loss = 0;
    let wrong = sums[2].map((v, i) => {
      const error = v - clean[i];
      loss += error ** 2 / BATCH;
      return (2 * error) / BATCH;
    });
    for (let i = 2; i >= 0; i--) {
      const [inputs, outputs] = SHAPES[i];
      const { values, gradient } = this.layers[i];
      const before = i ? sums[i - 1] : input;
      const back = new Float64Array(BATCH * inputs);
      gradient.fill(0);
      for (let r = 0; r < BATCH; r++) {
        for (let o = 0; o < outputs; o++) gradient[inputs * outputs + o] += wrong[r * outputs + o];
        for (let k = 0; k < inputs; k++) {
          const v = before[r * inputs + k];
          const share = sigmoid(v);
          const active = i ? v * share : v;
          let sum = 0;
          for (let o = 0; o < outputs; o++) {
            gradient[k * outputs + o] += active * wrong[r * outputs + o];
            sum += values[k * outputs + o] * wrong[r * outputs + o];
          }
          back[r * inputs + k] = sum * share * (1 + v * (1 - share)); // the slope of SiLU
        }
      }
      wrong = back;
    }
    this.correct();
    return loss;
  }

  private correct(): void {
    const [fast, slow] = [1 - 0.9 ** this.steps, 1 - 0.99 ** this.steps];
    for (const { values, gradient, first, second, average } of this.layers) {
      for (let i = 0; i < values.length; i++) {
        first[i] += 0.1 * (gradient[i] - first[i]);
        second[i] += 0.01 * (gradient[i] ** 2 - second[i]);
        values[i] -= (RATE * first[i]) / fast / (Math.sqrt(second[i] / slow) + 1e-8);
        average[i] += (1 - AVERAGE) * (values[i] - average[i]);
      }
    }
  }

  /** The denoiser for many points at once, [x, y, x, y, ...], as the samplers take it. */
  readonly denoise: Denoise = async (x: Picture, level: Level) => {
    const rows = x.length / 2;
    const input = new Float64Array(rows * INPUTS);
    for (let r = 0; r < rows; r++) this.inputs(x.subarray(2 * r, 2 * r + 2), level.t, input, r * INPUTS);
    const x0 = this.sums(input, rows, 'average')[2];
    return { x0, eps: x0.map((v, i) => (x[i] - level.alpha * v) / level.sigma) };
  };
}
