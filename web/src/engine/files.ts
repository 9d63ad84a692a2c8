/** Model files: fetched with progress, kept by their hash so that a second visit reads them from the disk, and unpacked. */

import type { Card } from './messages';

/** A file to fetch. Without a hash it is not kept here (the service worker keeps the runtime). */
export interface Wanted {
  url: string;
  bytes: number;
  sha256?: string;
}
export type Progress = (loaded: number, total: number) => void;

/** Files without which nothing is drawn. */
export const CORE = ['denoiser.onnx.gz', 'decoder.onnx.gz', 'examples.bin.gz'];

/** What follows after the first drawing: a quick model, which sketches. */
export const following = (card: Card) => (card.quick ? [card.quick.file] : []);

/** Files of the text encoder, which example prompts do without. */
export const TEXT = ['encoder.onnx.gz', 'tokenizer.json.gz'];

export const isExample = (card: Card, prompt: string) => !prompt.trim() || (card.examples ?? []).includes(prompt.trim());

export async function fetchCard(base: string): Promise<Card> {
  const answer = await fetch(`${base}model.json`);
  if (!answer.ok) throw new Error('the model of the page was not found; run: zaozi guide build');
  return answer.json();
}

export const wanted = (base: string, card: Card, names: readonly string[]): Wanted[] =>
  names.map((name) => ({ url: new URL(`${base}${name}`, globalThis.location.href).href, ...card.files[name] }));

const key = (file: Wanted) => `${file.url}?${file.sha256}`;
const cache = async () => ('caches' in globalThis ? caches.open('zaozi').catch(() => null) : null);

/** How many of a file's bytes are still to be fetched. */
export async function missing(files: readonly Wanted[]): Promise<number> {
  const kept = await cache();
  const sizes = await Promise.all(files.map(async (file) => (file.sha256 && (await kept?.match(key(file))) ? 0 : file.bytes)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

declare const __RUNTIME__: Record<string, number>; // compressed sizes, put in when the page is built

/** Whether WebGPU can be used here; its runtime is another file. */
export async function hasGpu(): Promise<boolean> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  return !!(await gpu?.requestAdapter().catch(() => null));
}

/** The name of ONNX Runtime's files, without their ends. */
export const runtimeName = (gpu: boolean) => (gpu ? 'ort-wasm-simd-threaded.asyncify' : 'ort-wasm-simd-threaded');

/** The runtime as a file to fetch. */
export function runtime(url: string): Wanted {
  return { url, bytes: __RUNTIME__[url.slice(url.lastIndexOf('/') + 1)] ?? 0 };
}

/** Fetch and unpack files, each of which can be used as soon as it is there; one progress for all of them. */
export function fetchEach(files: readonly Wanted[], progress: Progress): Promise<Uint8Array<ArrayBuffer>>[] {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  const keeping = cache();
  let loaded = 0;
  const add = (bytes: number) => progress(Math.min((loaded += bytes), total), total);
  const one = async (file: Wanted) => {
    const kept = await keeping;
    const found = file.sha256 ? await kept?.match(key(file)) : undefined;
    if (found) {
      add(file.bytes);
      return unpacked(new Uint8Array(await found.arrayBuffer()));
    }
    const data = await read(file, add);
    if (file.sha256) await kept?.put(key(file), new Response(data)).catch(() => undefined); // a full disk is no reason not to draw
    return unpacked(data);
  };
  return files.map((file) => {
    const data = one(file);
    data.catch(() => undefined); // whoever waits for it hears of it; nobody has to
    return data;
  });
}

/** All of them at once. */
export const fetchAll = (files: readonly Wanted[], progress: Progress) => Promise.all(fetchEach(files, progress));

async function read({ url, bytes, sha256 }: Wanted, add: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url);
  if (!response.ok || !response.body) throw new Error(`${url} could not be loaded (${response.status}); build the guide again`);
  const parts: Uint8Array[] = [];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    add(value.length);
  }
  const data = new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
  if (sha256 && isGzip(data) && data.length !== bytes) throw new Error(`the download of ${url} was interrupted; reload the page`);
  return data;
}

/** The bytes that base64 stands for. A loop: `Uint8Array.from` takes many times as long. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

const isGzip = (data: Uint8Array) => data[0] === 0x1f && data[1] === 0x8b;

/** What a gzip file holds; some servers unpack it on the way. */
export async function unpacked(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  if (!isGzip(data)) return data;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
