/** The model itself, in a thread of its own: text in, one picture out, and every step on the way. */

import { Tokenizer } from '@huggingface/tokenizers';
import type * as Ort from 'onnxruntime-web';
import { cfg, clamped } from '../diffusion/guidance';
import { pictureNoise } from '../diffusion/noise';
import { type Estimate, SAMPLERS } from '../diffusion/samplers';
import { type Level, levels, schedule } from '../diffusion/schedules';
import type { Picture } from '../diffusion/vectors';
import { fetchAll } from './files';
import type { Card, FromWorker, Request, ToWorker } from './messages';

interface Text {
  tokens: Float32Array;
  pooled: Float32Array;
  length: number;
}

class Stopped extends Error {}

class Model {
  private run = 0; // of the drawing that may go on; a later one, or a stop, ends it
  private last: Promise<unknown> = Promise.resolve();
  private texts = new Map<string, Text>();

  private constructor(
    private readonly ort: typeof Ort,
    readonly card: Card,
    readonly engine: string,
    private readonly tokenizer: Tokenizer,
    private readonly sessions: Record<'denoiser' | 'decoder' | 'encoder', Ort.InferenceSession>,
  ) {}

  static async load(base: string, progress: (loaded: number, total: number) => void): Promise<Model> {
    const answer = await fetch(`${base}model.json`);
    if (!answer.ok) throw new Error('the model is not beside the page; run: zaozi guide build');
    const card: Card = await answer.json();
    const gpu = await (navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu?.requestAdapter().catch(() => null);
    const engine = gpu ? 'webgpu' : 'wasm';
    const importing: Promise<typeof Ort> = gpu ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm');
    const [ort, files] = await Promise.all([
      importing,
      fetchAll(base, card, ['encoder.onnx', 'denoiser.onnx', 'decoder.onnx', 'tokenizer.json'], progress),
    ]);
    const name = gpu ? 'ort-wasm-simd-threaded.asyncify' : 'ort-wasm-simd-threaded';
    const at = (end: string) => new URL(`../ort/${name}.${end}`, new URL(base, globalThis.location.href)).href;
    ort.env.wasm.wasmPaths = { mjs: at('mjs'), wasm: at('wasm') };
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
    ort.env.logLevel = 'error';
    const open = (file: string) =>
      ort.InferenceSession.create(files.get(file) as Uint8Array, {
        executionProviders: gpu ? ['webgpu', 'wasm'] : ['wasm'],
        logSeverityLevel: 3, // errors; that some nodes run on the CPU is as it should be
      });
    const denoiser = await open('denoiser.onnx'); // one after another: they share a heap
    const encoder = await open('encoder.onnx');
    const decoder = await open('decoder.onnx');
    const json = JSON.parse(new TextDecoder().decode(files.get('tokenizer.json')));
    return new Model(ort, card, engine, new Tokenizer(json, {}), { denoiser, encoder, decoder });
  }

  stop() {
    this.run++;
  }

  private tensor<K extends 'float32' | 'int64' | 'bool'>(kind: K, data: Float32Array | BigInt64Array | Uint8Array, dims: number[]) {
    return new this.ort.Tensor(kind, data as never, dims) as Ort.Tensor;
  }

  private async encode(prompt: string): Promise<Text> {
    const kept = this.texts.get(prompt);
    if (kept) return kept;
    const { max_tokens: most } = this.card.text;
    let ids = this.tokenizer.encode(prompt).ids;
    if (ids.length > most) ids = [...ids.slice(0, most - 1), ids[ids.length - 1]];
    const dims = [1, ids.length];
    const found = await this.sessions.encoder.run({
      ids: this.tensor('int64', BigInt64Array.from(ids, BigInt), dims),
      mask: this.tensor('bool', new Uint8Array(ids.length).fill(1), dims),
    });
    const text = {
      tokens: found.tokens.data as Float32Array,
      pooled: found.pooled.data as Float32Array,
      length: ids.length,
    };
    this.texts.set(prompt, text);
    return text;
  }

  private async estimates(x: Picture, level: Level, text: Text, given: readonly boolean[]): Promise<Estimate[]> {
    const rows = given.length;
    const repeated = (values: ArrayLike<number>) => {
      const all = new Float32Array(rows * values.length);
      given.forEach((_, i) => all.set(values, i * values.length));
      return all;
    };
    const mask = new Uint8Array(rows * text.length);
    given.forEach((yes, i) => mask.fill(yes ? 1 : 0, i * text.length, (i + 1) * text.length));
    const feeds: Record<string, Ort.Tensor> = {
      x: this.tensor('float32', repeated(x), [rows, ...this.card.shape]),
      alpha: this.tensor('float32', repeated([level.alpha]), [rows]),
      sigma: this.tensor('float32', repeated([level.sigma]), [rows]),
      tokens: this.tensor('float32', repeated(text.tokens), [rows, text.length, this.card.text.width]),
      mask: this.tensor('bool', mask, [rows, text.length]),
      pooled: this.tensor('float32', repeated(text.pooled), [rows, this.card.text.width]),
    };
    for (const p of this.card.properties) {
      feeds[`property.${p.column}`] =
        p.kind === 'class'
          ? this.tensor('int64', new BigInt64Array(rows), [rows])
          : this.tensor('float32', new Float32Array(rows).fill(NaN), [rows]);
    }
    const found = await this.sessions.denoiser.run(feeds);
    const [x0, eps] = [found.x0.data as Float32Array, found.eps.data as Float32Array];
    return given.map((_, i) => ({
      x0: x0.slice(i * x.length, (i + 1) * x.length),
      eps: eps.slice(i * x.length, (i + 1) * x.length),
    }));
  }

  /** Draw one picture: [C, S, S] in [-1, 1], as the Python pipeline draws it from the same seed. */
  async draw(request: Request, watch: (step: { t: number; x: Picture; x0: Picture; eps: Picture }) => void): Promise<Float32Array> {
    const run = ++this.run;
    const before = this.last; // the sessions are not to be called twice at a time
    let done: () => void = () => undefined;
    this.last = new Promise<void>((resolve) => (done = resolve));
    await before;
    try {
      return await this.walk(request, () => run === this.run, watch);
    } finally {
      done();
    }
  }

  private async walk(
    request: Request,
    wanted: () => boolean,
    watch: (step: { t: number; x: Picture; x0: Picture; eps: Picture }) => void,
  ): Promise<Float32Array> {
    if (!wanted()) throw new Stopped();
    const path = levels(schedule(this.card.schedule), request.steps);
    const noise = pictureNoise(request.seed, request.picture, this.card.shape.reduce((a, b) => a * b));
    const blank = !request.prompt.trim();
    const text = await this.encode(blank ? ' ' : request.prompt);
    let denoise = cfg((x, level, given) => this.estimates(x, level, text, given), blank ? 0 : request.guidance);
    if (this.card.bounds) denoise = clamped(denoise, ...this.card.bounds);
    const start = noise(0).map((v) => path[0].sigma * v);
    const x0 = await SAMPLERS[request.sampler](denoise, start, path, noise, async (level, x, guess) => {
      watch({ t: level.t, x, x0: guess.x0, eps: guess.eps });
      await new Promise((resolve) => setTimeout(resolve)); // so that a stop is heard
      if (!wanted()) throw new Stopped();
    });
    const found = await this.sessions.decoder.run({ x0: this.tensor('float32', Float32Array.from(x0), [1, ...this.card.shape]) });
    return found.picture.data as Float32Array;
  }
}

const say = (message: FromWorker, transfer: Transferable[] = []) => postMessage(message, { transfer });
let model: Model | null = null;

addEventListener('message', async ({ data }: MessageEvent<ToWorker>) => {
  try {
    if (data.kind === 'load') {
      model = await Model.load(data.base, (loaded, total) => say({ kind: 'progress', loaded, total }));
      say({ kind: 'ready', engine: model.engine, card: model.card });
    } else if (data.kind === 'stop') {
      model?.stop();
    } else if (model) {
      const { id } = data;
      const start = performance.now();
      const pixels = await model.draw(data.request, ({ t, x, x0, eps }) =>
        say({ kind: 'step', id, step: { t, x: Float32Array.from(x), x0: Float32Array.from(x0), eps: Float32Array.from(eps) } }),
      );
      say({ kind: 'picture', id, pixels, seconds: (performance.now() - start) / 1000 });
    }
  } catch (error) {
    if (!(error instanceof Stopped)) {
      say({ kind: 'error', id: data.kind === 'draw' ? data.id : null, message: error instanceof Error ? error.message : String(error) });
    }
  }
});
