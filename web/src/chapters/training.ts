/** Draw points, train a tiny diffusion model on them, and watch what it draws while its loss falls. */

import { standardNormal } from '../diffusion/noise';
import { ddim } from '../diffusion/samplers';
import { levels } from '../diffusion/schedules';
import { Tiny } from '../diffusion/tiny';
import { type Point, drawing } from '../pointer';
import { tr } from '../strings';

const REACH = 2; // the plane shown is [-REACH, REACH]^2
const SLICE = 8; // milliseconds of training per frame
const LAST = 3000; // steps
const DRAWN = 300; // points drawn by the model
const EVERY = 100; // steps between two drawings
const SPACING = 0.05; // between points along a line of the pointer

/** Shapes to begin with. */
export const SHAPES: Record<string, () => Point[]> = {
  ring: () => Array.from({ length: 120 }, (_, i) => [1.2 * Math.cos((Math.PI * i) / 60), 1.2 * Math.sin((Math.PI * i) / 60)]),
  spiral: () => Array.from({ length: 160 }, (_, i) => [(0.2 + i / 130) * Math.cos(i / 13), (0.2 + i / 130) * Math.sin(i / 13)]),
  cross: () => Array.from({ length: 120 }, (_, i): Point => (i % 2 ? [(i - 60) / 50, 0] : [0, (i - 60) / 50])),
};

export function training(root: HTMLElement): void {
  const canvas = root.querySelector('canvas') as HTMLCanvasElement;
  const curve = root.querySelector('svg path') as SVGPathElement;
  const output = root.querySelector('output') as HTMLOutputElement;
  const shape = root.querySelector('[name="shape"]') as HTMLSelectElement;
  const pen = canvas.getContext('2d') as CanvasRenderingContext2D;
  const side = canvas.width;
  const button = root.querySelector('[data-do="train"]') as HTMLButtonElement;
  let points = SHAPES[shape.value]();
  let model: Tiny | null = null;
  let drawn: Float64Array | null = null;
  let losses: number[] = []; // means of ten steps
  let run = 0; // a later run, or a change of the points, ends the one under way

  const toPixel = (at: ArrayLike<number>): Point => [((at[0] / REACH + 1) * side) / 2, ((1 - at[1] / REACH) * side) / 2];

  function show() {
    const style = getComputedStyle(root);
    pen.clearRect(0, 0, side, side);
    const dots = (values: Iterable<ArrayLike<number>>, colour: string, size: number) => {
      pen.fillStyle = style.getPropertyValue(colour);
      for (const value of values) {
        const [x, y] = toPixel(value);
        pen.fillRect(x - size, y - size, 2 * size, 2 * size);
      }
    };
    dots(points, '--muted', 2);
    if (drawn) dots(Array.from({ length: DRAWN }, (_, i) => (drawn as Float64Array).subarray(2 * i, 2 * i + 2)), '--accent', 2.5);
    const [most, width] = [Math.max(1e-9, ...losses), 300];
    curve.setAttribute('d', losses.map((v, i) => `${i ? 'L' : 'M'}${((10 * i) / LAST) * width},${100 - (95 * v) / most}`).join(''));
  }

  function stop(words = '') {
    run++;
    button.textContent = tr('Train');
    if (words) output.value = words;
  }

  function clear(next: Point[]) {
    stop(next.length ? tr('Press Train.') : tr('Draw something in the square, then press Train.'));
    [points, model, drawn, losses] = [next, null, null, []];
    show();
  }

  /** What the model draws now, always from the same noise. */
  async function sample(of: Tiny): Promise<Float64Array> {
    const noise = Float64Array.from(standardNormal(0, 0, 0, 2 * DRAWN));
    return (await ddim(of.denoise, noise, levels(of.path, 20), () => new Float32Array(0))) as Float64Array;
  }

  async function train() {
    if (points.length < 2) return stop(tr('Draw something in the square first.'));
    const mine = ++run;
    button.textContent = tr('Stop');
    const trained = (model ??= new Tiny());
    while (trained.steps < LAST) {
      const until = performance.now() + SLICE;
      do {
        const loss = trained.step(points);
        const n = (trained.steps - 1) % 10;
        if (!n) losses.push(loss);
        else losses[losses.length - 1] += (loss - losses[losses.length - 1]) / (n + 1);
      } while (trained.steps % EVERY && performance.now() < until);
      if (trained.steps % EVERY === 0) drawn = await sample(trained);
      show();
      output.value = tr('step {1} of {2}, loss {3}', trained.steps, LAST, losses[losses.length - 1].toFixed(3));
      await new Promise(requestAnimationFrame);
      if (mine !== run) return;
    }
    stop(tr('Trained in {1} steps. Red: what the model draws from noise.', trained.steps));
    model = null;
    root.dispatchEvent(new CustomEvent('trained', { detail: { drawn }, bubbles: true }));
  }

  const toPlane = ([x, y]: Point): Point => [(2 * x - 1) * REACH, (1 - 2 * y) * REACH];
  let last: Point = [0, 0];
  drawing(
    canvas,
    (at) => {
      if (model || drawn) clear([]);
      points.push((last = toPlane(at)));
      show();
    },
    (place) => {
      const [from, to] = [last, toPlane(place)];
      const count = Math.floor(Math.hypot(to[0] - from[0], to[1] - from[1]) / SPACING);
      for (let i = 1; i <= count; i++) points.push([from[0] + ((to[0] - from[0]) * i) / count, from[1] + ((to[1] - from[1]) * i) / count]);
      if (!count) return;
      last = to;
      show();
    },
  );
  button.addEventListener('click', () => (button.textContent === 'Stop' ? stop('Stopped.') : void train()));
  (root.querySelector('[data-do="clear"]') as HTMLButtonElement).addEventListener('click', () => clear([]));
  shape.addEventListener('change', () => clear(SHAPES[shape.value]()));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  clear(points);
}
