/** The model itself, in a thread of its own: text in, one picture out, and every step on the way. */

import { Tokenizer } from '@huggingface/tokenizers';
import type * as Ort from 'onnxruntime-web';
import { LOW, clamped, composed, inpainted } from '../diffusion/guidance';
import { pictureNoise } from '../diffusion/noise';
import { type Estimate, SAMPLERS } from '../diffusion/samplers';
import { type Level, levels, schedule } from '../diffusion/schedules';
import type { Picture } from '../diffusion/vectors';
import { fitting } from './choice';
import { type Names, type Relatives, explanation } from './explain';
import { CORE, type Progress, TEXT, fetchAll, fetchCard, fetchEach, following, hasGpu, isExample, runtime, runtimeName, wanted } from './files';
import type { Card, Explanation, FromWorker, Reading, Request, Step, ToWorker } from './messages';
import { isChinese, reading } from './reading';
import { halfMask, shrunk, start } from './edit';
import { beginning } from './stage';
import { widen } from './widen';

interface Text {
  tokens: Float32Array;
  pooled: Float32Array;
  length: number; // 0: no text
}
interface Condition {
  text: Text;
  properties: Record<string, string | number>;
}

class Stopped extends Error {}

/** The runtime's own code, without its binary. */
let runtimeCode: Promise<{ gpu: boolean; importing: Promise<typeof Ort> }> | null = null;
const code = () =>
  (runtimeCode ??= hasGpu().then((gpu) => {
    const importing: Promise<typeof Ort> = gpu ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm');
    importing.catch(() => (runtimeCode = null));
    return { gpu, importing };
  }));

/** One piece of work at a time, in the order in which they came. */
class Queue {
  private last: Promise<unknown> = Promise.resolve();

  add<T>(work: () => Promise<T>): Promise<T> {
    const made = this.last.then(work);
    this.last = made.catch(() => undefined);
    return made;
  }
}

class Model {
  private newest = 0; // the drawing that may go on; a later one, or a stop, ends it
  private readonly drawings = new Queue();
  /** Into the runtime: its sessions share a heap, and WebGPU's cannot be entered again while a call of any of them is under way. */
  private readonly calls = new Queue();
  private texts = new Map<string, Text>();
  private tables = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  private encoder: Promise<{ session: Ort.InferenceSession; tokenizer: Tokenizer }> | null = null;
  private parts = new Map<string, Promise<Ort.InferenceSession>>();
  private quick: Promise<Ort.InferenceSession> | null = null; // the quick denoiser, once something was drawn
  private drew: () => void = () => undefined;
  private readonly drawn = new Promise<void>((resolve) => (this.drew = resolve)); // the first drawing

  private constructor(
    private readonly base: string,
    private readonly ort: typeof Ort,
    readonly card: Card,
    readonly engine: string,
    readonly threads: number,
    private readonly providers: string[],
    private readonly denoiser: Ort.InferenceSession,
    private readonly decoder: Ort.InferenceSession,
    examples: Uint8Array<ArrayBuffer>,
  ) {
    this.keepExamples(new Float32Array(examples.buffer));
  }

  /** Ready to draw `prompt`: an example needs no text encoder, which then follows behind. */
  static async load(base: string, prompt: string, progress: Progress): Promise<Model> {
    const [card, { gpu, importing }] = await Promise.all([fetchCard(base), code()]);
    const at = (end: string) => new URL(`../ort/${runtimeName(gpu)}.${end}`, base).href;
    const example = isExample(card, prompt);
    const files = [runtime(at('wasm.gz')), ...wanted(base, card, example ? CORE : [...CORE, ...TEXT])];
    const [wasm, denoiser, decoder, examples, ...text] = fetchEach(files, progress);
    const ort = await importing;
    ort.env.wasm.wasmPaths = { mjs: at('mjs') };
    ort.env.wasm.wasmBinary = (await wasm).buffer;
    const threads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = 'error';
    const providers = gpu ? ['webgpu', 'wasm'] : ['wasm'];
    const open = async (data: Promise<Uint8Array>) => session(ort, await data, providers);
    const small = await open(decoder); // starts the runtime while the denoiser is on its way; one after another: they share a heap
    const model = new Model(base, ort, card, gpu ? 'webgpu' : 'wasm', threads, providers, await open(denoiser), small, await examples);
    if (!example) await model.text(await Promise.all(text));
    void model.follow(example).catch(() => undefined); // whoever needs it fetches it again
    return model;
  }

  /** What the first drawing does without, and one call of each part, so that no drawing waits for its first. */
  private async follow(example: boolean): Promise<void> {
    if (example) await this.encode('one');
    if (!this.card.quick) return;
    await this.drawn;
    await this.quickDenoiser();
    say({ kind: 'quick' });
  }

  /** The quick denoiser, fetched where it is not there yet. */
  private quickDenoiser(): Promise<Ort.InferenceSession> {
    this.quick ??= fetchAll(wanted(this.base, this.card, following(this.card)), () => undefined)
      .then(([data]) => this.open(data))
      .then(async (opened) => {
        const nothing = new Float32Array(this.card.shape.reduce((a, b) => a * b));
        await this.estimates(opened, nothing, { t: 500, alpha: 0.5, sigma: 0.5 }, [null]);
        return opened;
      });
    this.quick.catch(() => (this.quick = null));
    return this.quick;
  }

  stop() {
    this.newest++;
  }

  private keepExamples(values: Float32Array) {
    const width = this.card.text.width;
    let at = 0;
    this.card.examples?.forEach((prompt, i) => {
      const length = this.card.example_lengths?.[i] ?? 0;
      const tokens = values.subarray(at, (at += length * width));
      this.texts.set(prompt, { tokens, pooled: values.subarray(at, (at += width)), length });
    });
  }

  /** The text encoder, fetched where it is not there yet. */
  text(files?: Uint8Array<ArrayBuffer>[]) {
    this.encoder ??= (async () => {
      const [encoder, tokenizer] = files ?? (await fetchAll(wanted(this.base, this.card, TEXT), () => undefined));
      const json = JSON.parse(new TextDecoder().decode(tokenizer));
      return { session: await this.open(encoder), tokenizer: new Tokenizer(json, {}) };
    })();
    this.encoder.catch(() => (this.encoder = null));
    return this.encoder;
  }

  private table(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const kept = this.tables.get(name) ?? fetchAll(wanted(this.base, this.card, [name]), () => undefined).then(([data]) => data);
    this.tables.set(name, kept);
    kept.catch(() => this.tables.delete(name));
    return kept;
  }

  /** A part of the model that not every drawing needs, opened where it is not yet. */
  private part(name: string): Promise<Ort.InferenceSession> {
    const kept = this.parts.get(name) ?? this.table(`${name}.onnx.gz`).then((data) => this.open(data));
    this.parts.set(name, kept);
    kept.catch(() => this.parts.delete(name));
    return kept;
  }

  private async json<T>(name: string): Promise<T> {
    return JSON.parse(new TextDecoder().decode(await this.table(`${name}.json.gz`)));
  }

  private tensor<K extends 'float32' | 'int64' | 'bool'>(kind: K, data: Float32Array | BigInt64Array | Uint8Array, dims: number[]) {
    return new this.ort.Tensor(kind, data as never, dims) as Ort.Tensor;
  }

  /** What is read of a prompt. */
  async read(prompt: string): Promise<Reading> {
    if (isExample(this.card, prompt)) return { text: prompt, unknown: [], note: null };
    const meanings = isChinese(prompt) ? await this.json<Record<string, string[]>>('meanings') : null;
    const { tokenizer } = await this.text();
    const unknown = tokenizer.token_to_id('[UNK]');
    return reading(prompt, meanings, (word) => unknown === undefined || !tokenizer.encode(word).ids.includes(unknown));
  }

  private async encode(prompt: string): Promise<Text> {
    const width = this.card.text.width;
    if (!prompt.trim()) return { tokens: new Float32Array(width), pooled: new Float32Array(width), length: 0 };
    const kept = this.texts.get(prompt.trim());
    if (kept) return kept;
    const { text: read } = await this.read(prompt);
    const { session, tokenizer } = await this.text();
    const { max_tokens: most } = this.card.text;
    let ids = tokenizer.encode(read).ids;
    if (ids.length > most) ids = [...ids.slice(0, most - 1), ids[ids.length - 1]];
    const dims = [1, ids.length];
    const found = await this.run(session, {
      ids: this.tensor('int64', BigInt64Array.from(ids, BigInt), dims),
      mask: this.tensor('bool', new Uint8Array(ids.length).fill(1), dims),
    });
    const text = { tokens: found.tokens.data as Float32Array, pooled: found.pooled.data as Float32Array, length: ids.length };
    if (this.texts.size > 500) this.texts.delete([...this.texts.keys()][0]);
    this.texts.set(prompt.trim(), text);
    return text;
  }

  /** Estimates of one picture under several conditions (null: none), in one call. */
  private async estimates(denoiser: Ort.InferenceSession, x: Picture, level: Level, rows: readonly (Condition | null)[]): Promise<Estimate[]> {
    const [count, width] = [rows.length, this.card.text.width];
    const length = Math.max(1, ...rows.map((row) => row?.text.length ?? 0));
    const repeated = (values: ArrayLike<number>) => {
      const all = new Float32Array(count * values.length);
      rows.forEach((_, i) => all.set(values, i * values.length));
      return all;
    };
    const tokens = new Float32Array(count * length * width);
    const pooled = new Float32Array(count * width);
    const mask = new Uint8Array(count * length);
    // no text is the text of another row with all of it masked, as in Python
    rows.forEach((row, i) => {
      const text = row?.text.length ? row.text : rows.find((other) => other?.text.length)?.text;
      if (text) tokens.set(text.tokens, i * length * width);
      if (text) pooled.set(text.pooled, i * width);
      mask.fill(1, i * length, i * length + (row?.text.length ?? 0));
    });
    const feeds: Record<string, Ort.Tensor> = {
      x: this.tensor('float32', repeated(x), [count, ...this.card.shape]),
      alpha: this.tensor('float32', repeated([level.alpha]), [count]),
      sigma: this.tensor('float32', repeated([level.sigma]), [count]),
      tokens: this.tensor('float32', tokens, [count, length, width]),
      mask: this.tensor('bool', mask, [count, length]),
      pooled: this.tensor('float32', pooled, [count, width]),
    };
    for (const p of this.card.properties) {
      const given = rows.map((row) => row?.properties[p.column]);
      feeds[`property.${p.column}`] =
        p.kind === 'class'
          ? this.tensor('int64', BigInt64Array.from(given, (v) => BigInt(v === undefined ? 0 : p.values.indexOf(`${v}`) + 1)), [count])
          : this.tensor('float32', Float32Array.from(given, (v) => (v === undefined ? NaN : Number(v))), [count]);
    }
    const found = await this.run(denoiser, feeds);
    const [x0, eps] = [found.x0.data as Float32Array, found.eps.data as Float32Array];
    return rows.map((_, i) => ({
      x0: x0.slice(i * x.length, (i + 1) * x.length),
      eps: eps.slice(i * x.length, (i + 1) * x.length),
    }));
  }

  /** Draw one picture: [C, S, S] in [-1, 1], as the Python pipeline draws it from the same seed. */
  async draw(request: Request, watch: (step: Step) => void): Promise<Float32Array> {
    const run = ++this.newest;
    const denoiser = request.quick && this.card.quick ? await this.quickDenoiser() : this.denoiser;
    return this.drawings.add(() => this.walk(denoiser, fitting(request, this.card), () => run === this.newest, watch)).finally(this.drew);
  }

  private run(session: Ort.InferenceSession, feeds: Record<string, Ort.Tensor>) {
    return this.calls.add(() => session.run(feeds));
  }

  private open(data: Uint8Array) {
    return this.calls.add(() => session(this.ort, data, this.providers));
  }

  /** The conditions that a request asks for, each with its weight. */
  private async conditions(request: Request): Promise<[Condition, number][]> {
    const properties = this.checked(request.properties ?? {});
    const { prompt, to, share = 0 } = request;
    if (!to?.trim() || to.trim() === prompt.trim()) return [[{ text: await this.encode(prompt), properties }, 1]];
    const parts: [Condition, number][] = [
      [{ text: await this.encode(prompt), properties: {} }, 1 - share],
      [{ text: await this.encode(to), properties: {} }, share],
    ];
    if (Object.keys(properties).length) parts.push([{ text: await this.encode(''), properties }, 1]);
    return parts;
  }

  private checked(properties: Record<string, string | number>) {
    for (const [column, value] of Object.entries(properties)) {
      const p = this.card.properties.find((known) => known.column === column);
      if (!p) throw new Error(`this model has no property '${column}'`);
      if (p.kind === 'class' ? !p.values.includes(`${value}`) : !Number.isFinite(Number(value))) {
        throw new Error(`this model does not know ${column} '${value}'`);
      }
    }
    return properties;
  }

  private async walk(denoiser: Ort.InferenceSession, request: Request, wanted: () => boolean, watch: (step: Step) => void): Promise<Float32Array> {
    if (!wanted()) throw new Stopped();
    const { init, steps } = request;
    const [channels, side] = this.card.shape;
    const all = levels(schedule(this.card.schedule), steps);
    const path = all.slice(init ? steps - Math.max(1, Math.round(steps * init.strength)) : 0);
    const noise = pictureNoise(request.seed, request.picture, this.card.shape.reduce((a, b) => a * b));
    const rows = await this.conditions(request);
    const blank = !request.prompt.trim() && !request.to?.trim() && !Object.keys(request.properties ?? {}).length;
    const known = init && (this.inLatents ? await this.latents(init.pixels) : shrunk(init.pixels, channels, this.card.size / side));
    let denoise = composed(
      (x, level, which) => this.estimates(denoiser, x, level, which.map((i) => (i === null ? null : rows[i][0]))),
      rows.map(([, weight]) => weight),
      blank ? 0 : request.guidance,
      LOW,
    );
    if (this.card.bounds) denoise = clamped(denoise, ...this.card.bounds);
    if (known && init.keep) denoise = inpainted(denoise, known, halfMask(init.keep, side));
    const x = start(noise(0), path[0], known);
    const x0 = await SAMPLERS[request.sampler](denoise, x, path, noise, async (level, x, guess) => {
      if (!request.quiet) watch(await this.shown(level.t, x, guess));
      await new Promise((resolve) => setTimeout(resolve)); // so that a stop is heard
      if (!wanted()) throw new Stopped();
    });
    const made = await this.decoded(x0);
    if (init?.keep) {
      const mask = halfMask(init.keep, this.card.size);
      for (let i = 0; i < made.length; i++) if (mask[i % mask.length]) made[i] = init.pixels[i];
    }
    return made;
  }

  /** Whether diffusion runs in latents, which are no pictures. */
  private get inLatents() {
    return !this.card.bounds;
  }

  private async latents(pixels: Float32Array): Promise<Float32Array> {
    const { channels, size } = this.card;
    const found = await this.run(await this.part('space'), { picture: this.tensor('float32', pixels, [1, channels, size, size]) });
    return found.x0.data as Float32Array;
  }

  private async decoded(x0: Picture): Promise<Float32Array> {
    const found = await this.run(this.decoder, { x0: this.tensor('float32', Float32Array.from(x0), [1, ...this.card.shape]) });
    return found.picture.data as Float32Array;
  }

  /** A step as pictures: latents are decoded, and of their noise the first channels are shown. */
  private async shown(t: number, x: Picture, guess: Estimate): Promise<Step> {
    const look = async (picture: Picture) => Float32Array.from(this.inLatents ? await this.decoded(picture) : picture);
    const [, height, width] = this.card.shape;
    const eps = Float32Array.from(guess.eps.slice(0, this.card.channels * height * width));
    return { t, x: await look(x), x0: await look(guess.x0), eps };
  }

  /** A finished picture, drawn anew by the first stage: as Python's from the same seed. */
  async enlarge(pixels: Float32Array, request: Request): Promise<Float32Array> {
    const stage = this.card.stages?.[0];
    if (!stage) throw new Error('this model has no super-resolution stage');
    const session = await this.part(`stage-${stage.size}`);
    const { channels, text } = this.card;
    const shape = [1, channels, stage.size, stage.size];
    const noise = pictureNoise(request.seed, request.picture, channels * stage.size ** 2);
    const { lower, first, further } = beginning(pixels, channels, stage, noise);
    const fixed: Record<string, Ort.Tensor> = {
      tokens: this.tensor('float32', new Float32Array(text.width), [1, 1, text.width]),
      mask: this.tensor('bool', new Uint8Array(1), [1, 1]),
      pooled: this.tensor('float32', new Float32Array(text.width), [1, text.width]),
      lower: this.tensor('float32', lower, shape),
      lower_share: this.tensor('float32', Float32Array.of(stage.noise), [1]),
    };
    const denoise = clamped(async (x, level) => {
      const feeds: Record<string, Ort.Tensor> = {
        ...fixed,
        x: this.tensor('float32', Float32Array.from(x), shape),
        alpha: this.tensor('float32', Float32Array.of(level.alpha), [1]),
        sigma: this.tensor('float32', Float32Array.of(level.sigma), [1]),
      };
      const read = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]]));
      const found = await this.run(session, read);
      return { x0: found.x0.data as Float32Array, eps: found.eps.data as Float32Array };
    }, ...stage.bounds);
    const path = levels(schedule(stage.schedule), stage.steps);
    const x0 = await SAMPLERS[request.sampler](denoise, start(first, path[0]), path, further, async () => undefined);
    return Float32Array.from(x0, (v) => Math.min(Math.max(v, -1), 1));
  }

  /** What is to be seen in a picture [C, S, S]. */
  async explain(pixels: Float32Array): Promise<Explanation> {
    const [judge, names, relatives, rows, meanings] = await Promise.all([
      this.part('judge'),
      this.json<Names>('judge'),
      this.json<Relatives>('relatives'),
      this.table('relatives.bin.gz'),
      this.json<Record<string, string[]>>('meanings'),
    ]);
    const { channels, size } = this.card;
    const grey = Float32Array.from({ length: size * size }, (_, i) => {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += pixels[c * size * size + i];
      return sum / channels;
    });
    const said = await this.run(judge, { x: this.tensor('float32', grey, [1, 1, size, size]) });
    const of = (name: string) => said[name].data as Float32Array;
    const answers = { features: of('features'), radical: of('radical'), structure: of('structure'), parts: of('parts') };
    return explanation(answers, names, relatives, new Int8Array(rows.buffer), meanings);
  }
}

/** On the CPU the graph runs as it is: ONNX Runtime's optimization takes longer than it saves over many drawings. */
function session(ort: typeof Ort, data: Uint8Array, executionProviders: string[]): Promise<Ort.InferenceSession> {
  const graphOptimizationLevel = executionProviders.includes('webgpu') ? 'all' : 'disabled';
  const logSeverityLevel = 3; // errors; that some nodes run on the CPU is as it should be
  return ort.InferenceSession.create(widen(data), { executionProviders, graphOptimizationLevel, logSeverityLevel });
}

const say = (message: FromWorker, transfer: Transferable[] = []) => postMessage(message, { transfer });
let model: Model | null = null;

// of a promise that nobody waits for, such as one inside the runtime: then the drawing would never end
addEventListener('unhandledrejection', ({ reason }) => {
  setTimeout(() => {
    throw reason;
  });
});

addEventListener('message', async ({ data }: MessageEvent<ToWorker>) => {
  const id = 'id' in data ? data.id : 0;
  try {
    if (data.kind === 'warm') {
      await code();
    } else if (data.kind === 'load') {
      const progress = (loaded: number, total: number) => say({ kind: 'progress', loaded, total });
      if (model && !isExample(model.card, data.prompt)) await model.text();
      model ??= await Model.load(data.base, data.prompt, progress);
      say({ kind: 'ready', id, engine: model.engine, threads: model.threads, card: model.card });
    } else if (data.kind === 'stop') {
      model?.stop();
    } else if (!model) {
      throw new Error('the model is not loaded');
    } else if (data.kind === 'read') {
      say({ kind: 'read', id, reading: await model.read(data.prompt) });
    } else if (data.kind === 'explain') {
      say({ kind: 'explained', id, explanation: await model.explain(data.pixels) });
    } else if (data.kind === 'enlarge') {
      const start = performance.now();
      const pixels = await model.enlarge(data.pixels, data.request);
      say({ kind: 'picture', id, pixels, seconds: (performance.now() - start) / 1000 });
    } else {
      const start = performance.now();
      const pixels = await model.draw(data.request, (step) => say({ kind: 'step', id, step }, [step.x.buffer, step.x0.buffer, step.eps.buffer]));
      say({ kind: 'picture', id, pixels, seconds: (performance.now() - start) / 1000 });
    }
  } catch (error) {
    if (!(error instanceof Stopped)) say({ kind: 'error', id, message: error instanceof Error ? error.message : String(error) });
  }
});

