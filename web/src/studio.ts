/** When to draw what: at once when asked, a sketch while a prompt is typed, the whole when typing stops, then the other seeds. */

import { fitting, sketch } from './engine/choice';
import type { Drawn, Engine } from './engine/engine';
import type { Explanation, Reading, Request, Step } from './engine/messages';
import { type Wanted, toLink, withSeed } from './links';

export const PAUSE = { sketch: 80, whole: 600 }; // milliseconds after the last key
export const SKETCH = 3; // steps of a model that is not distilled
export const GRID = 9; // seeds shown beside each other

/** A whole drawing shows its steps (`live`) or only its end; a sketch is small and replaced soon. */
export type Manner = 'live' | 'calm' | 'sketch';

export interface Watcher {
  began(wanted: Wanted, manner: Manner): void;
  step(wanted: Wanted, step: Step, manner: Manner): void;
  drawn(wanted: Wanted, drawn: Drawn, manner: Manner): void;
  read(wanted: Wanted, reading: Reading): void;
  explained(wanted: Wanted, explanation: Explanation | null): void;
  neighbour(wanted: Wanted, pixels: Float32Array): void;
  /** All is done: the picture, its explanation, and the seeds around it. */
  rested(wanted: Wanted): void;
  failed(error: unknown): void;
}

/** The seeds that are shown together with one. */
export function around(seed: number): number[] {
  const first = Math.min(Math.floor(seed / GRID) * GRID, 2 ** 32 - GRID);
  return Array.from({ length: GRID }, (_, i) => first + i);
}

export class Studio {
  private run = 0; // a later drawing, or a stop, ends the one under way
  private key = 0; // a later key, or a drawing, ends the wait for a pause
  private timers: ReturnType<typeof setTimeout>[] = [];
  private typedAt = Number.NEGATIVE_INFINITY; // when the last key was pressed
  private sketching: Promise<void> = Promise.resolve();
  private whole = false; // under way
  private known = new Map<string, Float32Array>(); // finished pictures, by link

  constructor(
    private readonly engine: () => Engine,
    private readonly watcher: Watcher,
  ) {}

  /**
   * A key was pressed: the first is sketched at once, later ones after a short pause, the whole is drawn once typing stops. A sketch
   * under way is finished, so that there is always something to see; of those that wait for it, only the last is made.
   */
  typed(wanted: Wanted): void {
    const now = performance.now();
    const first = now - this.typedAt > PAUSE.whole;
    this.typedAt = now;
    const key = this.forget();
    const soon = first || this.sketched(wanted).steps === 1; // nothing is lost by sketching every key
    if (this.whole) this.halt();
    const after = (pause: number, work: () => Promise<void>) =>
      setTimeout(() => (this.sketching = this.sketching.then(() => (key === this.key ? work() : undefined))), pause);
    this.timers = [after(soon ? 0 : PAUSE.sketch, () => this.sketch(wanted)), after(PAUSE.whole, async () => void this.draw(wanted, 'calm'))];
  }

  /** The whole drawing, its explanation, and the other seeds. */
  async draw(wanted: Wanted, manner: 'live' | 'calm'): Promise<void> {
    this.forget();
    await this.doing(async (run) => {
      this.whole = true;
      this.watcher.began(wanted, manner);
      void this.reading(wanted, run);
      const drawn = await this.picture(wanted, run, {}, (step) => this.watcher.step(wanted, step, manner));
      if (!drawn) return;
      this.watcher.drawn(wanted, drawn, manner);
      await this.rest(wanted, drawn.pixels, run);
    });
  }

  /** A picture that is there already becomes the large one. */
  async choose(wanted: Wanted, pixels: Float32Array): Promise<void> {
    this.forget();
    await this.doing(async (run) => {
      this.whole = true;
      await this.rest(wanted, pixels, run);
    });
  }

  stop(): void {
    this.forget();
    this.halt();
  }

  /** A finished picture of these settings, where one was made lately. */
  finished(wanted: Wanted): Float32Array | undefined {
    return this.known.get(toLink(wanted));
  }

  /** Remember a finished picture. */
  keep(wanted: Wanted, pixels: Float32Array): void {
    this.known.set(toLink(wanted), pixels);
    for (const link of this.known.keys()) if (this.known.size > 100) this.known.delete(link);
  }

  private async sketch(wanted: Wanted): Promise<void> {
    await this.doing(async (run) => {
      this.watcher.began(wanted, 'sketch');
      void this.reading(wanted, run);
      await this.quickly(wanted, run);
    });
  }

  private sketched(wanted: Wanted): Partial<Request> {
    return sketch(wanted, this.engine().card, SKETCH, this.engine().quick);
  }

  private async quickly(wanted: Wanted, run: number): Promise<void> {
    const drawn = await this.picture(wanted, run, this.sketched(wanted), (step) => this.watcher.step(wanted, step, 'sketch'));
    if (drawn) this.watcher.drawn(wanted, drawn, 'sketch');
  }

  private async rest(wanted: Wanted, pixels: Float32Array, run: number): Promise<void> {
    const explanation = await this.engine()
      .explain(pixels)
      .catch(() => null); // a drawing without one is still a drawing
    if (run !== this.run) return;
    this.watcher.explained(wanted, explanation);
    for (const seed of around(wanted.seed)) {
      const other = withSeed(wanted, seed);
      if (this.finished(other)) continue;
      const drawn = await this.picture(other, run, { quiet: true });
      if (!drawn) return;
      this.watcher.neighbour(other, drawn.pixels);
    }
    this.whole = false;
    this.watcher.rested(wanted);
  }

  /** One picture, or null where this run was overtaken. Whole ones are remembered. */
  private async picture(wanted: Wanted, run: number, how: Partial<Request>, watch?: (step: Step) => void): Promise<Drawn | null> {
    const request = await this.request(wanted, run);
    if (!request || run !== this.run) return null;
    const drawn = await this.engine().draw({ ...request, ...how }, (step) => {
      if (run === this.run) watch?.(step);
    });
    if (run !== this.run || !drawn) return null;
    if (!how.steps) this.keep(wanted, drawn.pixels);
    return drawn;
  }

  /** What an engine is asked for: the half that is kept is of a picture, drawn first where it is not there. */
  private async request(wanted: Wanted, run: number): Promise<Request | null> {
    const { kept, ...rest } = fitting(wanted, this.engine().card);
    const request: Request = { ...rest, ...(rest.properties && { properties: this.values(rest.properties) }) };
    if (!kept) return request;
    const pixels = this.finished(kept.of) ?? (await this.picture(kept.of, run, { quiet: true }))?.pixels;
    return pixels ? { ...request, init: { pixels, keep: kept.half, strength: 1 } } : null;
  }

  /** Numbers as numbers, whatever a link held. */
  private values(properties: Record<string, string | number>): Record<string, string | number> {
    const numbers = new Set(this.engine().card?.properties.filter((p) => p.kind === 'number').map((p) => p.column));
    return Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, numbers.has(name) ? Number(value) : `${value}`]));
  }

  private async reading(wanted: Wanted, run: number): Promise<void> {
    const reading = await this.engine()
      .read(wanted.prompt)
      .catch(() => null);
    if (run === this.run && reading) this.watcher.read(wanted, reading);
  }

  /** Do something that ends whatever was done before. */
  private async doing(work: (run: number) => Promise<void>): Promise<void> {
    this.halt();
    const run = this.run;
    try {
      await work(run);
    } catch (error) {
      if (run === this.run) this.watcher.failed(error);
    }
  }

  private halt(): void {
    this.run++;
    this.whole = false;
    this.engine().stop();
  }

  private forget(): number {
    for (const timer of this.timers) clearTimeout(timer);
    return ++this.key;
  }
}
