/** Draw a few strokes: the model makes a character of them, beginning in the middle of the noise instead of at its end. */

import type { Engine } from '../engine/engine';
import { START } from '../links';
import { paint } from '../paint';
import { type Point, drawing } from '../pointer';
import { tr } from '../strings';

const PEN = 9; // pixels of 128, the width of the font's strokes
const SEED = 7;

/** The strokes to begin with, in shares of the side: the left part of many characters about water, and a bar. */
const EXAMPLE: Point[][] = [
  [[0.12, 0.15], [0.25, 0.27]],
  [[0.06, 0.42], [0.19, 0.54]],
  [[0.1, 0.9], [0.28, 0.62]],
  [[0.42, 0.25], [0.92, 0.25]],
]; // prettier-ignore

export function strokes(root: HTMLElement, engine: Engine): void {
  const [paper, result] = ['paper', 'result'].map((name) => root.querySelector(`canvas[data-view="${name}"]`) as HTMLCanvasElement);
  const field = <E extends HTMLElement>(name: string) => root.querySelector(`[name="${name}"]`) as E & { value: string };
  const [prompt, strength] = [field<HTMLInputElement>('meaning'), field<HTMLInputElement>('strength')];
  const output = root.querySelector('output') as HTMLOutputElement;
  const pen = paper.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
  const side = paper.width;
  let run = 0;
  let seed = SEED;

  function clear() {
    pen.fillStyle = '#fff';
    pen.fillRect(0, 0, side, side);
  }
  function line(from: Point, to: Point) {
    pen.strokeStyle = '#000';
    pen.lineWidth = PEN;
    pen.lineCap = 'square';
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.stroke();
  }
  function example() {
    clear();
    for (const [from, to] of EXAMPLE) line(toPixel(from), toPixel(to));
  }

  /** [1, S, S] in [-1, 1]. */
  function pixels(): Float32Array {
    const { data } = pen.getImageData(0, 0, side, side);
    return Float32Array.from({ length: side * side }, (_, i) => data[4 * i] / 127.5 - 1);
  }

  async function complete() {
    const mine = ++run;
    try {
      const began = performance.now();
      await engine.load((loaded, total) => {
        if (mine !== run) return;
        const left = Math.ceil(((performance.now() - began) / 1000) * (total / Math.max(loaded, 1) - 1));
        output.value = tr('Loading the model: {1} of {2} MB, {3} s left', (loaded / 1e6).toFixed(0), (total / 1e6).toFixed(0), left);
      }, prompt.value);
      if (mine !== run) return;
      const { size, channels } = engine.card ?? { size: 0, channels: 0 };
      if (size !== side || channels !== 1) throw new Error(tr('this works with a model of grey glyphs only'));
      output.value = tr('Drawing.');
      const request = { ...START, prompt: prompt.value, seed, init: { pixels: pixels(), keep: null, strength: Number(strength.value) } };
      const drawn = await engine.draw(request, ({ x0 }) => mine === run && paint(result, x0));
      if (!drawn || mine !== run) return;
      paint(result, drawn.pixels);
      output.value = tr('Drawn in {1} s, with seed {2}.', drawn.seconds.toFixed(1), seed);
      seed++; // another one next time
      root.dispatchEvent(new CustomEvent('completed', { detail: drawn.pixels, bubbles: true }));
    } catch (error) {
      if (mine === run) output.value = error instanceof Error ? error.message : String(error);
    }
  }

  const toPixel = ([x, y]: Point): Point => [x * side, y * side];
  let last: Point = [0, 0];
  drawing(
    paper,
    (at) => line((last = toPixel(at)), last),
    (to) => line(last, (last = toPixel(to))),
  );
  for (const [name, work] of Object.entries({ example, clear })) root.querySelector(`[data-do="${name}"]`)?.addEventListener('click', work);
  (root.querySelector('form') as HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void complete();
  });
  strength.addEventListener('input', () => strength.setAttribute('aria-valuetext', `${Math.round(100 * Number(strength.value))}%`));
  example();
  paint(result, new Float32Array(side * side).fill(1));
}
