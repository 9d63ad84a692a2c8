/** Model files: fetched with progress, and kept by their hash so that a second visit reads them from the disk. */

import type { Card } from './messages';

export async function fetchAll(
  base: string,
  card: Card,
  names: readonly string[],
  progress: (loaded: number, total: number) => void,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const total = names.reduce((sum, name) => sum + card.files[name].bytes, 0);
  const cache = 'caches' in globalThis ? await caches.open('zaozi').catch(() => null) : null;
  let loaded = 0;
  const add = (bytes: number) => progress((loaded += bytes), total);
  const found = await Promise.all(
    names.map(async (name) => {
      const { bytes, sha256 } = card.files[name];
      const key = new URL(`${base}${name}?${sha256}`, globalThis.location.href).href;
      const kept = await cache?.match(key);
      if (kept) {
        const data = new Uint8Array(await kept.arrayBuffer());
        add(bytes);
        return [name, data] as const;
      }
      const data = await read(`${base}${name}`, bytes, add);
      await cache?.put(key, new Response(data)).catch(() => undefined); // a full disk is no reason not to draw
      return [name, data] as const;
    }),
  );
  return new Map(found);
}

async function read(url: string, bytes: number, add: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url);
  if (!response.ok || !response.body) throw new Error(`${url} is not there (${response.status}); build the guide again`);
  const data = new Uint8Array(bytes);
  const reader = response.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > bytes) throw new Error(`${url} is longer than it should be; build the guide again`);
    data.set(value, at);
    at += value.length;
    add(value.length);
  }
  if (at !== bytes) throw new Error(`${url} broke off; load the page again`);
  return data;
}
