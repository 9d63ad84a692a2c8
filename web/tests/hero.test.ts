import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { pictureNoise } from '../src/diffusion/noise';
import type { Drawn, Engine } from '../src/engine/engine';
import type { Explanation, Reading, Request, Step } from '../src/engine/messages';
import { headline, radicalInWords, sure } from '../src/explain';
import { type Packed, Recording, loadRecording } from '../src/hero';
import { START, type Wanted, fromLink, toLink, withSeed } from '../src/links';
import { named } from '../src/options';
import { wrapped } from '../src/paint';
import { name } from '../src/share';
import { type Manner, PAUSE, SKETCH, Studio, type Watcher, around } from '../src/studio';

describe('links', () => {
  const full: Wanted = {
    prompt: 'clear water & "fire" 狗 = #1',
    steps: 33,
    sampler: 'ddim',
    guidance: 7.5,
    seed: 2 ** 32 - 1,
    picture: 0,
    properties: { structure: 'left-right', strokes: '12', radical: '167' },
    to: 'a small bird',
    share: 0.35,
    kept: { half: 'left', of: { ...START, prompt: 'gold', kept: { half: 'top', of: { ...START, prompt: 'fish', to: 'tree', share: 0.5 } } } },
  };

  test('bring everything back', () => {
    expect(fromLink(toLink(full))).toEqual(full);
    expect(fromLink(toLink(START))).toEqual(START);
  });

  test('of older pages, and damaged ones, still work', () => {
    expect(fromLink('#prompt=gold&steps=20&sampler=dpmpp-2m&guidance=5&seed=0')).toEqual({ ...START, seed: 0 });
    expect(fromLink('#what')).toBeNull();
    expect(fromLink('')).toBeNull();
    expect(fromLink('#prompt=x&steps=1e9&guidance=-3&seed=none&sampler=constructor&share=2&keep=left')).toEqual({
      ...START, prompt: 'x', steps: 120, guidance: 0,
    });
  });

  test('hold a chain of halves of bounded length', () => {
    let wanted: Wanted = START;
    for (let i = 0; i < 20; i++) wanted = { ...START, kept: { half: 'right', of: wanted } };
    let [found, depth] = [fromLink(toLink(wanted)), 0];
    for (; found?.kept; found = found.kept.of) depth++;
    expect(depth).toBe(4);
  });
});

async function packed(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const zipped = new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream('gzip')));
  return btoa(String.fromCharCode(...new Uint8Array(await zipped.arrayBuffer())));
}

describe('the recording', () => {
  const [seeds, steps, shape, size, tones] = [[0, 1], 3, [1, 4, 4] as [number, number, number], 8, 31];
  const levelsOf = (seed: number, step: number) => Uint8Array.from({ length: 16 }, (_, i) => (7 * i + 11 * step + 5 * seed) % 32);
  const bytes = new Uint8Array(2 * (3 * 16 + 64));
  seeds.forEach((seed) => {
    for (let step = 0; step < steps; step++) {
      const before = step ? levelsOf(seed, step - 1) : new Uint8Array(16);
      bytes.set(levelsOf(seed, step).map((v, i) => v - before[i]), (seed * steps + step) * 16);
    }
    bytes.set(new Uint8Array(64).fill(seed ? 63 : 0), 2 * 3 * 16 + seed * 64);
  });
  const about: Packed = {
    prompt: 'gold', seed: 1, steps, sampler: 'dpmpp-2m', guidance: 5, schedule: 'linear_path', shape, size, seeds, tones,
    explanations: null, pictures: '',
  };

  test('gives the guesses, the finished pictures, and the noisy ones that belong to them', async () => {
    const recording = new Recording(about, bytes);
    expect(recording.guesses.get(1)?.[2]).toEqual(levelsOf(1, 2));
    expect(recording.finished.get(0)?.every((v) => v === -1)).toBe(true);
    expect(recording.finished.get(1)?.every((v) => v === 1)).toBe(true);
    const made = await recording.steps(1);
    expect(made.length).toBe(steps);
    expect([...made[0].x]).toEqual([...pictureNoise(1, 0, 16)(0)]);
    made.forEach((step, n) => {
      const [alpha, sigma] = [1 - step.t / 1000, step.t / 1000];
      step.x0.forEach((v, i) => expect(v).toBeCloseTo((2 * levelsOf(1, n)[i]) / 31 - 1, 5));
      step.x.forEach((v, i) => expect(v).toBeCloseTo(alpha * step.x0[i] + sigma * step.eps[i], 4));
    });
  });

  test('knows which settings it holds', () => {
    const recording = new Recording(about, bytes);
    expect(recording.holds({ ...START, steps: 3, seed: 0 })).toBe(true);
    expect(recording.holds({ ...START, steps: 3, seed: 2 })).toBe(false);
    expect(recording.holds({ ...START, steps: 3, seed: 0, to: 'fire' })).toBe(false);
  });

  test('is read from its file, and refused where it is damaged', async () => {
    const file = { ...about, pictures: await packed(bytes) };
    vi.stubGlobal('fetch', async () => new Response(JSON.stringify(file)));
    expect((await loadRecording('data/hero.json')).guesses.get(0)?.length).toBe(3);
    file.pictures = await packed(bytes.slice(1));
    await expect(loadRecording('data/hero.json')).rejects.toThrow('damaged');
    vi.unstubAllGlobals();
  });
});

/** An engine whose drawings take as long as they are told to. */
class Fake implements Engine {
  card = null;
  asked: Request[] = [];
  stopped = 0;
  took = 100;
  explaining = true;
  private waiting: ((drawn: Drawn | null) => void) | null = null;
  size = async () => 0;
  load = async () => 'a fake';
  enlarge = async (pixels: Float32Array) => pixels;
  read = async (prompt: string): Promise<Reading> => ({ text: prompt, unknown: [], note: null });
  explain = async (): Promise<Explanation> => {
    if (!this.explaining) throw new Error('not here');
    return explanation;
  };

  draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null> {
    this.asked.push(request);
    const pixels = Float32Array.of(request.seed, request.steps);
    return new Promise((resolve) => {
      this.waiting = resolve;
      setTimeout(() => {
        if (!request.quiet) watch({ t: 0, x: pixels, x0: pixels, eps: pixels });
        resolve({ pixels, seconds: this.took / 1000 });
      }, this.took);
    });
  }

  stop() {
    this.stopped++;
    this.waiting?.(null);
  }
}

const explanation: Explanation = {
  radical: { character: '金', meaning: 'metal, gold', probability: 0.97 },
  parts: [],
  structure: { name: 'left-right', probability: 1 },
  nearest: [{ character: '鈿', definition: 'hairpin', distance: 3, copy: false }],
};

class Notes implements Watcher {
  told: string[] = [];
  began = (wanted: Wanted, manner: Manner) => void this.told.push(`${manner} ${wanted.prompt}`);
  step = () => void this.told.push('step');
  drawn = (wanted: Wanted, _: Drawn, manner: Manner) => void this.told.push(`drawn ${manner} ${wanted.prompt}`);
  read = () => undefined;
  explained = (_: Wanted, found: Explanation | null) => void this.told.push(found ? 'explained' : 'unexplained');
  neighbour = (wanted: Wanted) => void this.told.push(`seed ${wanted.seed}`);
  rested = () => void this.told.push('rested');
  failed = (error: unknown) => void this.told.push(`failed: ${error}`);
}

describe('drawing while typing', () => {
  let [engine, notes] = [new Fake(), new Notes()];
  let studio = new Studio(() => engine, notes);
  const typed = (prompt: string) => studio.typed({ ...START, seed: 0, prompt });

  beforeEach(() => {
    vi.useFakeTimers();
    [engine, notes] = [new Fake(), new Notes()];
    studio = new Studio(() => engine, notes);
  });
  afterEach(() => void vi.useRealTimers());

  test('sketches the first key at once and the others after a pause, draws the whole, explains it, then the other seeds', async () => {
    for (const prompt of ['g', 'go', 'gol', 'gold']) {
      typed(prompt);
      await vi.advanceTimersByTimeAsync(PAUSE.sketch - 10);
      expect(engine.asked.map((r) => [r.prompt, r.steps, r.quiet])).toEqual([['g', SKETCH, true]]);
    }
    await vi.advanceTimersByTimeAsync(5000);
    expect(notes.told).toEqual([
      'sketch g', 'drawn sketch g', 'sketch gold', 'drawn sketch gold', 'calm gold', 'step', 'drawn calm gold', 'explained',
      ...[1, 2, 3, 4, 5, 6, 7, 8].map((seed) => `seed ${seed}`), 'rested',
    ]);
    expect(engine.asked.slice(3).every((r) => r.quiet && r.steps === 20)).toBe(true);
  });

  test('lets the last key win over a whole drawing', async () => {
    void studio.draw({ ...START, seed: 0 }, 'live');
    await vi.advanceTimersByTimeAsync(50);
    typed('fish');
    await vi.advanceTimersByTimeAsync(5000);
    expect(notes.told.filter((line) => line.startsWith('drawn'))).toEqual(['drawn sketch fish', 'drawn calm fish']);
  });

  test('keeps a slow sketch rather than nothing', async () => {
    engine.took = 2000;
    typed('gold');
    await vi.advanceTimersByTimeAsync(PAUSE.whole + 100);
    expect(notes.told).toEqual(['sketch gold']);
    await vi.advanceTimersByTimeAsync(2000);
    expect(notes.told).toEqual(['sketch gold', 'drawn sketch gold', 'calm gold']);
  });

  test('finishes the sketch under way, then makes the last that was asked for', async () => {
    engine.took = 500;
    for (const prompt of ['g', 'go', 'gol', 'gold']) {
      typed(prompt);
      await vi.advanceTimersByTimeAsync(PAUSE.sketch + 10);
    }
    await vi.advanceTimersByTimeAsync(PAUSE.whole + 600);
    expect(notes.told.slice(0, 5)).toEqual(['sketch g', 'drawn sketch g', 'sketch gold', 'drawn sketch gold', 'calm gold']);
  });

  test('draws nothing of what was typed over', async () => {
    engine.took = 2000;
    typed('gold');
    await vi.advanceTimersByTimeAsync(PAUSE.whole + 100); // the whole waits for the sketch
    typed('fish');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(notes.told.filter((line) => line.startsWith('calm'))).toEqual(['calm fish']);
    expect(engine.asked.filter((r) => r.prompt === 'gold').length).toBe(1);
  });

  test('stops, and forgets what was to come', async () => {
    typed('gold');
    await vi.advanceTimersByTimeAsync(PAUSE.sketch + 10);
    studio.stop();
    await vi.advanceTimersByTimeAsync(5000);
    expect(notes.told).toEqual(['sketch gold']);
  });

  test('goes on without an explanation', async () => {
    engine.explaining = false;
    void studio.draw({ ...START, seed: 0 }, 'live');
    await vi.advanceTimersByTimeAsync(5000);
    expect(notes.told).toContain('unexplained');
    expect(notes.told.at(-1)).toBe('rested');
  });

  test('draws first what a half is kept of, unless it is known', async () => {
    const of = { ...START, prompt: 'gold', seed: 3 };
    void studio.draw({ ...START, prompt: 'fish', seed: 9, kept: { half: 'left', of } }, 'live');
    await vi.advanceTimersByTimeAsync(150);
    expect(engine.asked.map((r) => [r.prompt, r.seed, r.init?.keep])).toEqual([['gold', 3, undefined], ['fish', 9, 'left']]);
    expect([...(engine.asked[1].init?.pixels ?? [])]).toEqual([3, 20]);
    void studio.draw({ ...START, prompt: 'bird', seed: 9, kept: { half: 'left', of } }, 'live');
    await vi.advanceTimersByTimeAsync(50);
    expect(engine.asked.filter((r) => r.prompt === 'gold').length).toBe(1);
  });

  test('sends numbers as numbers', async () => {
    const card = { properties: [{ column: 'strokes', kind: 'number', values: [] }, { column: 'radical', kind: 'class', values: ['9'] }] };
    Object.assign(engine, { card });
    void studio.draw({ ...START, properties: { strokes: '12', radical: '9' } }, 'live');
    await vi.advanceTimersByTimeAsync(10);
    expect(engine.asked[0].properties).toEqual({ strokes: 12, radical: '9' });
  });
});

test('the seeds around one are nine that stay together', () => {
  expect(around(7)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(around(9)[0]).toBe(9);
  expect(around(2 ** 32 - 1).at(-1)).toBe(2 ** 32 - 1);
  expect(around(2 ** 32 - 1)).toHaveLength(9);
  expect(withSeed(START, 3)).toEqual({ ...START, seed: 3 });
});

test('explanations in words', () => {
  expect(headline(explanation)).toBe('This character does not exist');
  expect(headline({ ...explanation, nearest: [{ ...explanation.nearest[0], copy: true }] })).toBe('Almost a copy of 鈿');
  expect(radicalInWords(explanation)).toBe('金: metal, gold');
  expect([0.999, 0.97, 0.004].map(sure)).toEqual(['>99% sure', '97% sure', '<1% sure']);
  expect(named('radical', '167')).toBe('167 金');
  expect(named('structure', 'surround-from-left')).toBe('surround from left');
});

test('long prompts on a card are broken, then cut', () => {
  const width = (text: string) => text.length;
  expect(wrapped('a small song bird', 9, 3, width)).toEqual(['a small', 'song bird']);
  expect(wrapped('a small song bird', 9, 1, width)).toEqual(['a small…']);
  expect(wrapped('incomprehensibilities', 9, 3, width)).toEqual(['incompre…']);
});

test('files are named after what is on them', () => {
  expect(name({ ...START, prompt: 'A small, song bird!' }, 'png')).toBe('a-small-song-bird-7.png');
  expect(name({ ...START, prompt: '狗' }, 'gif')).toBe('glyph-7.gif');
});
