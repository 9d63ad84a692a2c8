import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { fitting, sketch, told } from '../src/engine/choice';
import type { Drawn, Engine } from '../src/engine/engine';
import { CORE, following } from '../src/engine/files';
import type { Card, Distilled, Request, Step } from '../src/engine/messages';
import { START, type Wanted } from '../src/links';
import { PAUSE, SKETCH, Studio, type Watcher } from '../src/studio';

const distilled: Distilled = { steps: 2, guidance: 4, model: 'base', sampler: 'consistency' };
const card: Card = {
  name: 'base', size: 128, channels: 1, shape: [1, 64, 64], bounds: [-1, 1], schedule: 'linear_path',
  text: { max_tokens: 32, width: 384 }, properties: [], files: {},
};
const withQuick: Card = { ...card, quick: { name: 'fast', file: 'fast-0123.onnx.gz', distilled } };
const student: Card = { ...card, name: 'fast', distilled };
const composed = { ...START, to: 'water', share: 0.3 };

describe('which network draws', () => {
  test('a sketch: the quick model in one step and without guidance, if it can; else the whole one in a few', () => {
    const whole = { steps: SKETCH, quiet: true };
    const quick = { steps: 1, sampler: 'consistency', guidance: 1, quick: true, quiet: false };
    expect(sketch(START, withQuick, SKETCH, true)).toEqual(quick);
    expect(sketch(START, withQuick, SKETCH), 'while it is not there').toEqual(whole);
    expect(sketch(START, { ...withQuick, bounds: null }, SKETCH, true)).toEqual({ ...quick, quiet: true });
    for (const [request, some] of [[START, card], [START, null], [composed, withQuick], [{ ...START, guidance: 0 }, withQuick]] as const) {
      expect(sketch(request, some, SKETCH, true)).toEqual(whole);
    }
    expect(sketch({ ...START, steps: 3 }, card, SKETCH).steps).toBe(3);
    expect(sketch(START, student, SKETCH)).toEqual({ steps: 1, sampler: 'consistency', guidance: 1, quiet: false });
    const older = { ...withQuick, quick: { ...withQuick.quick!, distilled: { ...distilled, sampler: undefined } } };
    expect(sketch(START, older, SKETCH, true).sampler).toBe('ddim');
  });

  test('of a student takes neither guidance nor a second prompt, and says which model does', () => {
    expect(fitting(composed, student)).toEqual({ ...START, guidance: 1 });
    expect(fitting(composed, withQuick)).toBe(composed);
    expect(told(student)).toMatch(/^fast draws in 2 steps, with guidance 4 built in; .* use the model base, /);
    expect(told(card)).toBe('');
  });

  test('is fetched first: the whole one, and the quick one behind it', () => {
    expect([CORE[0], ...following(withQuick)]).toEqual(['denoiser.onnx.gz', 'fast-0123.onnx.gz']);
    expect([CORE[0], ...following(card)]).toEqual(['denoiser.onnx.gz']);
  });
});

/** An engine with a quick model: it draws in 40 ms, the whole one in 400. */
class Twofold implements Engine {
  card: Card | null = withQuick;
  quick = true;
  asked: Request[] = [];
  private waiting: ((drawn: Drawn | null) => void) | null = null;
  size = async () => 0;
  load = async () => 'two';
  enlarge = async (pixels: Float32Array) => pixels;
  read = async (prompt: string) => ({ text: prompt, unknown: [], note: null });
  explain = async () => Promise.reject(new Error('not here'));
  stop = () => this.waiting?.(null);

  draw(request: Request, watch: (step: Step) => void): Promise<Drawn | null> {
    this.asked.push(request);
    const pixels = Float32Array.of(request.steps);
    return new Promise((resolve) => {
      this.waiting = resolve;
      setTimeout(() => {
        if (!request.quiet) watch({ t: 1000, x: pixels, x0: pixels, eps: pixels });
        resolve({ pixels, seconds: 0 });
      }, request.quick ? 40 : 400);
    });
  }
}

describe('drawing with a quick model', () => {
  let [engine, told] = [new Twofold(), [] as string[]];
  const nothing = () => undefined;
  const watcher: Watcher = {
    began: nothing, read: nothing, explained: nothing, neighbour: nothing, rested: nothing,
    failed: (error) => void told.push(`${error}`),
    step: (wanted: Wanted, _: Step, manner) => void (manner === 'sketch' && told.push(`seen ${wanted.prompt}`)),
    drawn: (wanted: Wanted, _: Drawn, manner) => void told.push(`${manner} ${wanted.prompt}`),
  };
  let studio = new Studio(() => engine, watcher);
  beforeEach(() => {
    vi.useFakeTimers();
    [engine, told] = [new Twofold(), []];
    studio = new Studio(() => engine, watcher);
  });
  afterEach(() => void vi.useRealTimers());

  test('sketches every key at once, the last one wins, and the whole drawing is the whole model’s', async () => {
    for (const prompt of ['g', 'go', 'gol', 'gold']) {
      studio.typed({ ...START, prompt });
      await vi.advanceTimersByTimeAsync(10); // faster than it draws
    }
    await vi.advanceTimersByTimeAsync(PAUSE.whole + 500);
    expect(told).toEqual(['seen g', 'sketch g', 'seen gold', 'sketch gold', 'calm gold']);
    expect(engine.asked.slice(0, 3).map((r) => [r.quick, r.steps, r.guidance])).toEqual([[true, 1, 1], [true, 1, 1], [undefined, 20, 5]]);
  });

  test('sketches with the whole model until the quick one is there', async () => {
    engine.quick = false;
    studio.typed({ ...START, prompt: 'gold' });
    await vi.advanceTimersByTimeAsync(500);
    expect(told).toEqual(['sketch gold']);
    expect(engine.asked.map((r) => [r.quick, r.steps, r.guidance])).toEqual([[undefined, SKETCH, 5]]);
  });
});
