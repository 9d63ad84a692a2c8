/** Noise that is a function, not a stream: the same words, uniforms and normals as core/noise.py. */

const M0 = halves(0xd2e7470ee14c6c93n);
const M1 = halves(0xca5a826395121157n);
const W0 = halves(0x9e3779b97f4a7c15n);
const W1 = halves(0xbb67ae8584caa73bn);
const TWO32 = 2 ** 32;

type Half = readonly [low: number, high: number]; // of a 64-bit word

function halves(word: bigint): Half {
  return [Number(word & 0xffffffffn), Number(word >> 32n)];
}

let high = 0; // the upper half of the product that `times` made last

/** The lower half of a product of two 32-bit words; the upper one is left in `high`. */
function times(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const first = ah * bl + ((al * bl) >>> 16);
  const second = al * bh + (first & 0xffff);
  high = ah * bh + (first >>> 16) + (second >>> 16);
  return Math.imul(a, b) >>> 0;
}

/** The product of 64-bit words as four 32-bit ones, lowest first, into `out`. */
function product(a: Half, bl: number, bh: number, out: Uint32Array): void {
  const al = a[0];
  const ah = a[1];
  out[0] = times(al, bl);
  const h0 = high;
  const l1 = times(ah, bl);
  const h1 = high;
  const l2 = times(al, bh);
  const h2 = high;
  const l3 = times(ah, bh);
  const h3 = high;
  const second = h0 + l1 + l2;
  const third = h1 + h2 + l3 + Math.floor(second / TWO32);
  out[1] = second; // modulo 2^32
  out[2] = third;
  out[3] = h3 + Math.floor(third / TWO32);
}

/** Add a 64-bit word to the one at `at`. */
function add(words: Uint32Array, at: number, word: Half): void {
  const sum = words[at] + word[0];
  words[at] = sum;
  words[at + 1] = words[at + 1] + word[1] + (sum >= TWO32 ? 1 : 0);
}

const P0 = new Uint32Array(4);
const P1 = new Uint32Array(4);

/** Philox-4x64-10 (Salmon et al., SC 2011) in place: a key and a counter of 64-bit words, each as its lower and upper half. */
function rounds(key: Uint32Array, counter: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    product(M0, counter[0], counter[1], P0);
    product(M1, counter[4], counter[5], P1);
    counter[0] = P1[2] ^ counter[2] ^ key[0];
    counter[1] = P1[3] ^ counter[3] ^ key[1];
    counter[2] = P1[0];
    counter[3] = P1[1];
    counter[4] = P0[2] ^ counter[6] ^ key[2];
    counter[5] = P0[3] ^ counter[7] ^ key[3];
    counter[6] = P0[0];
    counter[7] = P0[1];
    add(key, 0, W0);
    add(key, 2, W1);
  }
}

/** `count` standard normals for the draw-th draw of one picture: Box-Muller on the halves of each word. */
export function standardNormal(seed: number | bigint, picture: number, draw: number, count: number): Float32Array {
  const key = Uint32Array.from([BigInt(seed), BigInt(picture)].flatMap(halves));
  const out = new Float32Array(count);
  const used = new Uint32Array(4);
  const words = new Uint32Array(8);
  for (let i = 0; i < count; i += 2) {
    const word = (i / 2) % 4;
    if (word === 0) {
      used.set(key);
      words.fill(0);
      words[0] = i / 8 + 1;
      words[2] = draw; // modulo 2^32
      words[3] = Math.floor(draw / TWO32);
      rounds(used, words);
    }
    const u1 = (words[2 * word + 1] + 1) / TWO32;
    const u2 = words[2 * word] / TWO32;
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
