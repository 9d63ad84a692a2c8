import { readFileSync } from 'node:fs';
import { transformWithOxc } from 'vite';
import raw from './golden.json';
import { describe, expect, test } from 'vitest';
import { LOW, cfg, clamped, inpainted } from '../src/diffusion/guidance';
import { type Part, estimate, logDensity, score } from '../src/diffusion/mixture';
import { pictureNoise, standardNormal } from '../src/diffusion/noise';
import { SAMPLERS, type Sampler } from '../src/diffusion/samplers';
import { levels, logsnr, schedule, signal } from '../src/diffusion/schedules';
import { type Picture, mix } from '../src/diffusion/vectors';
import { halfMask, shrunk, start } from '../src/engine/edit';
import { isLatin, reading } from '../src/engine/reading';
import type { Half } from '../src/engine/messages';

const golden: any = raw;
const mixture: Part[] = golden.mixture;

function close(found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number) {
  expect(found.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) {
    expect(Math.abs(found[i] - wanted[i])).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(wanted[i])));
  }
}

test('noise is the same function of seed, picture and draw', () => {
  for (const { key, values } of golden.noise) close(standardNormal(key[0], key[1], key[2], values.length), values, 1e-7);
});

test('levels and their times', () => {
  const times = [0, 0.4, 1, 1.5, 2, 250.25, 500, 999, 999.9, 1000];
  for (const name of Object.keys(golden.levels)) {
    const path = schedule(name);
    close(times.flatMap((t) => Object.values(path.level(t))), golden.levels[name].flat(), 1e-12);
    close(times.slice(1, -1).flatMap((t) => [logsnr(path.level(t)), signal(path.level(t))]), golden.ratios[name].flat(), 1e-10);
    close([-30, -9, -1, 0, 3.3, 9, 20].map((v) => path.time(v)), golden.times[name], 1e-10);
  }
});

test('time grids', () => {
  for (const [name, wanted] of Object.entries<number[]>(golden.grids)) {
    const [path, grid, n] = name.split('/');
    close(levels(schedule(path), Number(n), grid).map((l) => l.t), wanted, 1e-10);
  }
});

test('a mixture, its density and its score', () => {
  const points = [[-0.7, 0.2], [0, 0], [2, -3]];
  [1, 200, 700].forEach((t, i) => {
    const level = schedule('linear').level(t);
    close(points.map((p) => logDensity(mixture, p, level)), golden.density[i], 1e-10);
    close(points.flatMap((p) => score(mixture, p, level)), golden.score[i].flat(), 1e-10);
  });
});

/** The mixture as a network: where no text is given, its mirror image. */
const network = async (x: Picture, level: Parameters<typeof estimate>[2], given: readonly boolean[]) =>
  given.map((yes) => {
    const sign = yes ? 1 : -1;
    const guess = estimate(mixture, x.map((v) => sign * v), level);
    return { x0: guess.x0.map((v) => sign * v), eps: guess.eps.map((v) => sign * v) };
  });

describe('every sampler walks the way Python walks', () => {
  for (const [name, wanted] of Object.entries<number[][]>(golden.trajectories)) {
    test(name, async () => {
      const [sampler, path, scale] = name.split('/');
      const noise = pictureNoise(golden.seed, golden.picture, 2);
      const grid = levels(schedule(path), golden.steps);
      const seen: Picture[] = [];
      const first = Float64Array.from(noise(0), (v) => grid[0].sigma * v);
      const end = await SAMPLERS[sampler](clamped(cfg(network, Number(scale)), -1, 1), first, grid, noise, (_, x) => {
        seen.push(x);
      });
      close([...seen, end].flatMap((x) => [...x]), wanted.flat(), 1e-6);
    });
  }
});

/** The TypeScript twin in CONTRIBUTING.md, as it would stand in samplers.ts. */
async function example(): Promise<Sampler> {
  const page = readFileSync('../CONTRIBUTING.md', 'utf-8');
  const code = page.split('```ts title="web/src/diffusion/samplers.ts"\n')[1].split('```')[0].replace('export const', 'const');
  const { code: plain } = await transformWithOxc(code, 'restart.ts');
  return new Function('mix', `${plain}; return restart;`)(mix);
}

describe('the example that CONTRIBUTING.md shows walks the way its twin walks', () => {
  for (const [name, wanted] of Object.entries<number[][]>(golden.example)) {
    test(name, async () => {
      const [, path, scale] = name.split('/');
      const noise = pictureNoise(golden.seed, golden.picture, 2);
      const grid = levels(schedule(path), golden.steps);
      const seen: Picture[] = [];
      const first = Float64Array.from(noise(0), (v) => grid[0].sigma * v);
      const restart = await example();
      const end = await restart(clamped(cfg(network, Number(scale)), -1, 1), first, grid, noise, (_, x) => {
        seen.push(x);
      });
      close([...seen, end].flatMap((x) => [...x]), wanted.flat(), 1e-6);
    });
  }
});

describe('a part that is kept comes out as it was, by every sampler, with guidance in the noisier half', () => {
  test('the noise share is that of Python', () => expect(LOW).toBe(golden.guidance_low));
  for (const [name, wanted] of Object.entries<number[][]>(golden.inpainted)) {
    test(name, async () => {
      const [sampler, path] = name.split('/');
      const noise = pictureNoise(golden.seed, golden.picture, 2);
      const grid = levels(schedule(path), golden.steps);
      const seen: Picture[] = [];
      const denoise = inpainted(clamped(cfg(network, 3, LOW), -1, 1), golden.known, Uint8Array.from(golden.mask));
      const first = start(noise(0), grid[0], golden.known);
      const end = await SAMPLERS[sampler](denoise, first, grid, noise, (_, x) => {
        seen.push(x);
      });
      close([...seen, end].flatMap((x) => [...x]), wanted.flat(), 1e-6);
      expect(Math.abs(end[0] - golden.known[0])).toBeLessThan(1e-6);
    });
  }
});

test('pictures shrink, and halves are where Python has them', () => {
  for (const [name, wanted] of Object.entries<number[]>(golden.shrunk)) {
    const [channels, factor] = name.split('/').map(Number);
    const picture = standardNormal(golden.seed, golden.picture, 0, channels * 64);
    close(shrunk(picture, channels, factor), wanted, 1e-5);
  }
  for (const [half, wanted] of Object.entries<number[]>(golden.halves)) expect([...halfMask(half as Half, 6)]).toEqual(wanted);
});

test('Chinese prompts are read by their meanings, and Latin words are told from others', () => {
  for (const [prompt, glosses] of Object.entries<Record<string, string>>(golden.glossed)) {
    const read = reading(prompt, golden.meanings, () => true);
    const found = Object.entries(glosses);
    expect(read.note).toBe(found.length ? found.map(([c, gloss]) => `${c}: ${gloss}`).join('; ') : null);
    expect(read.text).toBe(found.length ? found.map(([, gloss]) => gloss).join(', ') : prompt);
  }
  for (const [word, wanted] of Object.entries(golden.latin)) expect([word, isLatin(word)]).toEqual([word, wanted]);
});
