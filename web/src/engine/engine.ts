/** Engines as the page sees them: something that draws a request, step by step, and can be stopped. */

import type { Card, Explanation, FromWorker, Reading, Request, Step, ToWorker } from './messages';

export interface Drawn {
  pixels: Float32Array;
  seconds: number;
}

export interface Engine {
  /** Bytes to fetch before the first drawing; 0 when all is there. */
  size(): Promise<number>;
  /** Make ready; `progress` is called with bytes. Returns a few words on what draws. */
  load(progress: (loaded: number, total: number) => void): Promise<string>;
  card: Card | null;
  read(prompt: string): Promise<Reading>;
  /** Null where it was stopped or overtaken: the last request wins. */
  draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null>;
  explain(pixels: Float32Array): Promise<Explanation>;
  stop(): void;
}

/** The shipped model in this browser: ONNX Runtime Web in a worker. */
export class BrowserEngine implements Engine {
  private worker: Worker | null = null;
  private ready: Promise<string> | null = null;
  private next = 0;
  private watching: ((message: FromWorker) => void) | null = null;
  private cancel: (() => void) | null = null;
  private progress: (loaded: number, total: number) => void = () => undefined;

  card: Card | null = null;

  constructor(private readonly base: string) {}

  async size(): Promise<number> {
    const answer = await fetch(`${this.base}model.json`);
    if (!answer.ok) throw new Error('the model is not beside the page; run: zaozi guide build');
    this.card = (await answer.json()) as Card;
    return Object.values(this.card.files).reduce((sum, file) => sum + file.bytes, 0);
  }

  async read(prompt: string): Promise<Reading> {
    return { text: prompt, unknown: [], note: null };
  }

  explain(): Promise<Explanation> {
    return Promise.reject(new Error('this engine explains nothing'));
  }

  load(progress: (loaded: number, total: number) => void): Promise<string> {
    this.progress = progress; // of whoever waits now
    this.ready ??= new Promise((resolve, reject) => {
      this.worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
      this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
        if (data.kind === 'progress') this.progress(data.loaded, data.total);
        else if (data.kind === 'ready') {
          const threads = globalThis.crossOriginIsolated ? navigator.hardwareConcurrency || 1 : 1;
          resolve(data.engine === 'webgpu' ? 'this browser, on its GPU' : `this browser, on ${Math.min(threads, 8)} CPU threads`);
        } else if (data.kind === 'error' && data.id === null) reject(new Error(data.message));
        else this.watching?.(data);
      };
      this.worker.onerror = (event) => reject(new Error(event.message || 'the drawing thread did not start'));
      this.send({ kind: 'load', base: new URL(this.base, document.baseURI).href });
    });
    this.ready.catch(() => {
      this.worker?.terminate();
      this.ready = null;
    });
    return this.ready;
  }

  async draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null> {
    const id = ++this.next;
    return new Promise((resolve, reject) => {
      this.cancel = () => resolve(null);
      this.watching = (message) => {
        if (!('id' in message) || message.id !== id) return;
        if (message.kind === 'step') watch(message.step);
        else if (message.kind === 'picture') resolve({ pixels: message.pixels, seconds: message.seconds });
        else reject(new Error(message.message));
      };
      this.send({ kind: 'draw', id, request });
    });
  }

  stop() {
    this.send({ kind: 'stop' });
    this.cancel?.();
  }

  private send(message: ToWorker) {
    this.worker?.postMessage(message);
  }
}

/** The server's PyTorch, which streams a line of JSON a step. */
export class ServerEngine implements Engine {
  private aborter: AbortController | null = null;

  card: Card | null = null;

  constructor(private readonly url: string) {}

  async size(): Promise<number> {
    return 0;
  }

  async read(prompt: string): Promise<Reading> {
    return { text: prompt, unknown: [], note: null };
  }

  explain(): Promise<Explanation> {
    return Promise.reject(new Error('this engine explains nothing'));
  }

  async load(): Promise<string> {
    const answer = await fetch(`${this.url}/health`);
    if (!answer.ok) throw new Error(`the server does not answer (${answer.status})`);
    return 'the server, with PyTorch';
  }

  async draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null> {
    this.aborter = new AbortController();
    const start = performance.now();
    try {
      const answer = await fetch(`${this.url}/generate`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...request, quiet: undefined }),
        signal: this.aborter.signal,
      });
      if (!answer.ok || !answer.body) {
        const said = await answer.json().catch(() => ({}));
        throw new Error(said.detail ?? `the server refused (${answer.status})`);
      }
      let pixels: Float32Array | null = null;
      for await (const line of lines(answer.body)) {
        const event = JSON.parse(line);
        if (event.error) throw new Error(event.error);
        if (event.picture) pixels = floats(event.picture);
        else watch({ t: event.t, x: floats(event.x), x0: floats(event.x0), eps: floats(event.eps) });
      }
      if (!pixels) throw new Error('the server broke off');
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

/** Base64 of little-endian float32. */
function floats(text: string): Float32Array {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
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
