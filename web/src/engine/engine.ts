/** Engines as the page sees them: something that draws a request, step by step, and can be stopped. */

import { CORE, TEXT, fetchCard, following, fromBase64, hasGpu, isExample, missing, runtime, runtimeName, wanted } from './files';
import type { Card, Explanation, FromWorker, Reading, Request, Step, ToWorker } from './messages';

type Asked =
  | Omit<Extract<ToWorker, { kind: 'load' }>, 'id'>
  | Omit<Extract<ToWorker, { kind: 'draw' }>, 'id'>
  | Omit<Extract<ToWorker, { kind: 'read' }>, 'id'>
  | Omit<Extract<ToWorker, { kind: 'explain' }>, 'id'>
  | Omit<Extract<ToWorker, { kind: 'enlarge' }>, 'id'>;

export interface Drawn {
  pixels: Float32Array;
  seconds: number;
}

export interface Engine {
  /** Bytes to fetch before `prompt` is drawn; 0 when all is there. Example prompts need no text encoder. */
  size(prompt?: string): Promise<number>;
  /** Somebody will probably draw soon: start what costs no download worth mentioning. */
  warm?(): void;
  /** Make ready to draw `prompt`; `progress` is called with bytes. Returns a few words on what draws. */
  load(progress: (loaded: number, total: number) => void, prompt?: string): Promise<string>;
  card: Card | null;
  /** Whether the quick model is there, which follows after the first drawing. */
  readonly quick?: boolean;
  read(prompt: string): Promise<Reading>;
  /** Null where it was stopped or overtaken: the last request wins. */
  draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null>;
  explain(pixels: Float32Array): Promise<Explanation>;
  /** A finished picture of a request, drawn anew by the model's first super-resolution stage. */
  enlarge(pixels: Float32Array, request: Request): Promise<Float32Array>;
  stop(): void;
}

type Answer = Extract<FromWorker, { kind: 'ready' | 'read' | 'explained' | 'picture' }>;
interface Waiting {
  resolve: (answer: Answer | null) => void;
  reject: (error: Error) => void;
  watch?: (step: Step) => void;
}

/** The shipped model in this browser: ONNX Runtime Web in a worker. */
export class BrowserEngine implements Engine {
  private worker: Worker | null = null;
  private waiting = new Map<number, Waiting>();
  private drawing = 0; // the number of the drawing under way
  private next = 0;
  private progress: (loaded: number, total: number) => void = () => undefined;
  card: Card | null = null;
  quick = false;

  constructor(private readonly base: string) {}

  async size(prompt = ' '): Promise<number> {
    this.card ??= await fetchCard(this.base);
    const files = wanted(this.base, this.card, [...CORE, ...following(this.card), ...(isExample(this.card, prompt) ? [] : TEXT)]);
    const bytes = await missing(files);
    if (!bytes) return 0;
    return bytes + runtime(`../ort/${runtimeName(await hasGpu())}.wasm.gz`).bytes;
  }

  warm(): void {
    this.started().postMessage({ kind: 'warm' } satisfies ToWorker);
  }

  async load(progress: (loaded: number, total: number) => void, prompt = ' '): Promise<string> {
    this.progress = progress; // of whoever waits now
    try {
      const answer = await this.ask({ kind: 'load', base: new URL(this.base, document.baseURI).href, prompt });
      if (answer?.kind !== 'ready') throw new Error('the worker thread did not start');
      this.card = answer.card;
      const { engine, threads } = answer;
      return engine === 'webgpu' ? 'this browser, on its GPU' : `this browser, on ${threads} CPU thread${threads > 1 ? 's' : ''}`;
    } catch (error) {
      this.worker?.terminate();
      this.worker = null;
      throw error;
    }
  }

  async draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null> {
    this.end();
    const answer = await this.ask({ kind: 'draw', request }, watch, (id) => (this.drawing = id));
    return answer?.kind === 'picture' ? { pixels: answer.pixels, seconds: answer.seconds } : null;
  }

  async read(prompt: string): Promise<Reading> {
    const answer = await this.ask({ kind: 'read', prompt });
    return answer?.kind === 'read' ? answer.reading : { text: prompt, unknown: [], note: null };
  }

  async explain(pixels: Float32Array): Promise<Explanation> {
    const answer = await this.ask({ kind: 'explain', pixels });
    if (answer?.kind !== 'explained') throw new Error('no explanation was returned');
    return answer.explanation;
  }

  async enlarge(pixels: Float32Array, request: Request): Promise<Float32Array> {
    const answer = await this.ask({ kind: 'enlarge', pixels, request });
    if (answer?.kind !== 'picture') throw new Error('no larger picture was returned');
    return answer.pixels;
  }

  stop() {
    this.worker?.postMessage({ kind: 'stop' } satisfies ToWorker);
    this.end();
  }

  /** Whoever waits for the drawing under way hears that it was overtaken. */
  private end() {
    this.waiting.get(this.drawing)?.resolve(null);
    this.waiting.delete(this.drawing);
  }

  private ask(message: Asked, watch?: (step: Step) => void, begun?: (id: number) => void): Promise<Answer | null> {
    const id = ++this.next;
    begun?.(id);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, watch });
      this.started().postMessage({ ...message, id } as ToWorker);
    });
  }

  private started(): Worker {
    if (this.worker) return this.worker;
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    let heard = false; // else it may not have started, and the next request starts another
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      heard = true;
      if (data.kind === 'progress') return this.progress(data.loaded, data.total);
      if (data.kind === 'quick') return void (this.quick = true);
      const one = this.waiting.get(data.id);
      if (data.kind === 'step') return one?.watch?.(data.step);
      this.waiting.delete(data.id);
      if (data.kind === 'error') one?.reject(new Error(data.message));
      else one?.resolve(data);
    };
    worker.onerror = (event) => {
      const error = new Error(event.message ? `drawing failed (${event.message}); reload the page` : 'the worker thread did not start');
      for (const one of this.waiting.values()) one.reject(error);
      this.waiting.clear();
      if (heard || this.worker !== worker) return;
      worker.terminate();
      this.worker = null;
    };
    return (this.worker = worker);
  }
}

/** The server's PyTorch, which streams a line of JSON a step. */
export class ServerEngine implements Engine {
  private aborter: AbortController | null = null;
  private judge: Promise<unknown> | null = null;

  /** `browser` reads prompts and explains pictures, once something was drawn. */
  constructor(
    private readonly url: string,
    private readonly browser: BrowserEngine,
  ) {}

  /** The server draws with the whole model alone. */
  get card(): Card | null {
    return this.browser.card && { ...this.browser.card, quick: undefined };
  }

  async size(): Promise<number> {
    await this.browser.size().catch(() => 0); // for its card
    return 0;
  }

  async read(prompt: string): Promise<Reading> {
    await this.helper();
    return this.browser.read(prompt);
  }

  async explain(pixels: Float32Array): Promise<Explanation> {
    await this.helper();
    return this.browser.explain(pixels);
  }

  async enlarge(pixels: Float32Array, request: Request): Promise<Float32Array> {
    await this.helper();
    return this.browser.enlarge(pixels, request);
  }

  private helper(): Promise<unknown> {
    this.judge ??= this.browser.load(() => undefined);
    this.judge.catch(() => (this.judge = null));
    return this.judge;
  }

  async load(): Promise<string> {
    const answer = await fetch(`${this.url}/health`);
    if (!answer.ok) throw new Error(`the server is not available (${answer.status})`);
    return 'the server, with PyTorch';
  }

  async draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null> {
    this.aborter = new AbortController();
    const start = performance.now();
    try {
      const answer = await fetch(`${this.url}/generate`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body(request)),
        signal: this.aborter.signal,
      });
      if (!answer.ok || !answer.body) {
        const said = await answer.json().catch(() => ({}));
        throw new Error(said.detail ?? `the server rejected the request (${answer.status})`);
      }
      let pixels: Float32Array | null = null;
      for await (const line of lines(answer.body)) {
        const event = JSON.parse(line);
        if (event.error) throw new Error(event.error);
        if (event.picture) pixels = floats(event.picture);
        else watch({ t: event.t, x: floats(event.x), x0: floats(event.x0), eps: floats(event.eps) });
      }
      if (!pixels) throw new Error('the server ended the response too early');
      return { pixels, seconds: (performance.now() - start) / 1000 };
    } catch (error) {
      if (this.aborter.signal.aborted) return null;
      throw error;
    }
  }

  stop() {
    this.aborter?.abort();
  }
}

/** A request as the API reads it: `Ask` in serve/ask.py. */
function body({ steps, sampler, guidance, seed, init, ...rest }: Request) {
  const edit = init && { init: base64(init.pixels), strength: init.strength, keep: init.keep ?? '' };
  return { ...rest, sampling: { steps, sampler, seed, guidance: { scale: guidance } }, ...(edit && { edit }) };
}

function base64(values: Float32Array): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
}

/** Base64 of little-endian float32. */
function floats(text: string): Float32Array {
  return new Float32Array(fromBase64(text).buffer);
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const parts = rest.split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) if (part.trim()) yield part;
    if (done) return;
  }
}
