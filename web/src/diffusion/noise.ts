/** Noise that is a function, not a stream: the same words, uniforms and normals as core/noise.py. */

const MASK = (1n << 64n) - 1n;
const M0 = 0xd2e7470ee14c6c93n;
const M1 = 0xca5a826395121157n;
const W0 = 0x9e3779b97f4a7c15n;
const W1 = 0xbb67ae8584caa73bn;

/** Philox-4x64-10 (Salmon et al., SC 2011): four 64-bit words of a key and a counter. */
export function philox(key: readonly [bigint, bigint], counter: readonly bigint[]): bigint[] {
  let [k0, k1] = key;
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < 10; round++) {
    const p0 = M0 * c0;
    const p1 = M1 * c2;
    [c0, c1, c2, c3] = [(p1 >> 64n) ^ c1 ^ k0, p1 & MASK, (p0 >> 64n) ^ c3 ^ k1, p0 & MASK];
    k0 = (k0 + W0) & MASK;
    k1 = (k1 + W1) & MASK;
  }
  return [c0, c1, c2, c3];
}

/** `count` standard normals for the draw-th draw of one picture: Box-Muller on the halves of each word. */
export function standardNormal(seed: number | bigint, picture: number, draw: number, count: number): Float32Array {
  const key = [BigInt(seed), BigInt(picture)] as const;
  const out = new Float32Array(count);
  let words: bigint[] = [];
  for (let i = 0; i < count; i += 2) {
    const word = (i / 2) % 4;
    if (word === 0) words = philox(key, [BigInt(i / 8 + 1), BigInt(draw), 0n, 0n]);
    const u1 = (Number(words[word] >> 32n) + 1) / 2 ** 32;
    const u2 = Number(words[word] & 0xffffffffn) / 2 ** 32;
    const radius = Math.sqrt(-2 * Math.log(u1));
    const angle = 2 * Math.PI * u2;
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** `noise(draw)`: the fresh noise of a picture's draw-th draw. */
export type Noise = (draw: number) => Float32Array;

export function pictureNoise(seed: number | bigint, picture: number, count: number): Noise {
  return (draw) => standardNormal(seed, picture, draw, count);
}
