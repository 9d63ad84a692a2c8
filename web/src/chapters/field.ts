/** A score field one can drop points into: they go home along the probability-flow ODE while the noise level falls. */

import { type Part, estimate, score } from '../diffusion/mixture';
import { ddim } from '../diffusion/samplers';
import { type Level, T, levels, schedule } from '../diffusion/schedules';
import { shares } from '../pointer';
import { densityOnGrid } from './density';

const REACH = 3; // the plane shown is [-REACH, REACH]^2
const CELLS = 96; // of the density, which is drawn small and enlarged
const ARROWS = 21;
const STEPS = 240;
const SECONDS = 6; // that the level takes from T to zero
const PARTS: Part[] = Array.from({ length: 7 }, (_, i) => {
  const angle = (2 * Math.PI * i) / 7;
  return { mean: [1.6 * Math.cos(angle), 1.6 * Math.sin(angle)], std: 0.16, weight: 1 / 7 };
});

interface Drop {
  trail: number[][];
  from: number; // the step at which it was dropped
}

export function field(root: HTMLElement): void {
  const canvas = root.querySelector('canvas') as HTMLCanvasElement;
  const time = root.querySelector('[name="t"]') as HTMLInputElement;
  const output = root.querySelector('output') as HTMLOutputElement;
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  const small = new OffscreenCanvas(CELLS, CELLS);
  const path = schedule('cosine');
  const side = canvas.width;
  const toPixel = (v: number) => ((v / REACH + 1) * side) / 2;
  const toPlane = (p: number) => ((2 * p) / side - 1) * REACH;
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  const lowest = Number(time.min);
  let start = Number(time.dataset.start); // of the next fall: where the reader last put the level
  let drops: Drop[] = [];
  let grid: Level[] = []; // of the fall that goes on, or went on last
  let step = 0;
  let began: number | null = null; // when the level began to fall
  let colours = palette();
  let shown = ''; // the density in `small`
  let queued = false;

  function palette() {
    const style = getComputedStyle(root);
    const [accent, muted, rgb] = ['--accent', '--muted', '--accent-rgb'].map((name) => style.getPropertyValue(name).trim());
    return { accent, muted, rgb };
  }

  function density(level: Level) {
    const wanted = `${level.t} ${colours.rgb}`;
    if (shown === wanted) return;
    shown = wanted;
    const pen = small.getContext('2d') as OffscreenCanvasRenderingContext2D;
    const image = pen.createImageData(CELLS, CELLS);
    const ink = colours.rgb.split(',').map(Number);
    densityOnGrid(PARTS, level, CELLS, REACH).forEach((v, i) => image.data.set([...ink, Math.round(120 * v)], 4 * i));
    pen.putImageData(image, 0, 0);
  }

  function arrows(level: Level) {
    const shafts = new Path2D();
    const heads = new Path2D();
    for (let i = 0; i < ARROWS * ARROWS; i++) {
      const at = [i % ARROWS, Math.floor(i / ARROWS)].map((k) => toPlane(((k + 0.5) * side) / ARROWS));
      const s = score(PARTS, at, level);
      const size = Math.hypot(s[0], s[1]);
      const length = (11 * Math.sqrt(size)) / (1 + Math.sqrt(size)) / Math.max(size, 1e-9);
      const [x, y] = [toPixel(at[0]) + s[0] * length, side - toPixel(at[1]) - s[1] * length];
      const [ux, uy] = [(3.5 * s[0]) / Math.max(size, 1e-9), (-3.5 * s[1]) / Math.max(size, 1e-9)];
      shafts.moveTo(toPixel(at[0]), side - toPixel(at[1]));
      shafts.lineTo(x, y);
      heads.moveTo(x + ux, y + uy);
      heads.lineTo(x - 0.6 * uy, y + 0.6 * ux);
      heads.lineTo(x + 0.6 * uy, y - 0.6 * ux);
    }
    context.strokeStyle = context.fillStyle = colours.muted;
    context.lineWidth = 1;
    context.stroke(shafts);
    context.fill(heads);
  }

  function points() {
    context.strokeStyle = context.fillStyle = colours.accent;
    context.lineWidth = 2;
    for (const { trail, from } of drops) {
      const walked = trail.slice(0, Math.max(step - from, 0) + 1);
      context.beginPath();
      walked.forEach(([x, y], i) => context[i ? 'lineTo' : 'moveTo'](toPixel(x), side - toPixel(y)));
      context.stroke();
      const [x, y] = walked[walked.length - 1];
      context.beginPath();
      context.arc(toPixel(x), side - toPixel(y), 4.5, 0, 7);
      context.fill();
    }
  }

  function draw() {
    const level = path.level(Number(time.value));
    density(level);
    context.clearRect(0, 0, side, side);
    context.drawImage(small, 0, 0, side, side);
    arrows(level);
    points();
    output.value = `t = ${time.value}`;
  }

  /** Draw before the next frame, once, however often it was asked for. */
  function soon() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      draw();
    });
  }

  /** Where the flow takes a point from a step of the grid on: the very sampler, in small steps. */
  async function flow(at: number[], from: number): Promise<number[][]> {
    const trail: number[][] = [];
    const end = await ddim(
      async (x, level) => estimate(PARTS, x, level),
      Float64Array.from(at),
      grid.slice(from),
      () => new Float32Array(2),
      (_, x) => void trail.push([...x]),
    );
    return [...trail, [...end]];
  }

  function show(k: number) {
    step = k;
    time.value = `${Math.max(Math.round(grid[k].t), lowest)}`;
    draw();
  }

  function fall(now: number) {
    if (began === null) return;
    const last = grid.length - 1;
    const at = still.matches ? last : Math.floor(((now - began) / (1000 * SECONDS * (grid[0].t / T))) * last);
    show(Math.min(Math.max(at, 0), last));
    if (step < last) requestAnimationFrame(fall);
    else {
      began = null;
      root.dispatchEvent(new CustomEvent('landed', { detail: drops.map(({ trail }) => trail[trail.length - 1]), bubbles: true }));
    }
  }

  /** Drop points, at the level where the fall that goes on has come to, or at the start of a new one. */
  async function drop(places: (level: Level) => number[][]) {
    const starts = began === null;
    if (starts) {
      grid = [path.level(start), ...levels(path, STEPS).filter((l) => l.t < start)];
      step = 0;
      drops = [];
      began = performance.now();
    }
    const from = step;
    const run = grid;
    const trails = await Promise.all(places(grid[from]).map((at) => flow(at, from)));
    if (run !== grid) return; // the level was moved by hand meanwhile
    drops = [...drops, ...trails.map((trail) => ({ trail, from }))].slice(-40);
    if (starts) {
      began = performance.now();
      requestAnimationFrame(fall);
    }
  }

  function stop() {
    began = null;
    grid = [];
    drops = [];
  }

  canvas.addEventListener('pointerdown', (event) => {
    const [x, y] = shares(canvas, event);
    const at = [toPlane(x * side), -toPlane(y * side)];
    void drop(() => [at]);
  });
  (root.querySelector('[data-do="drop"]') as HTMLButtonElement).addEventListener('click', () => {
    void drop((level) =>
      Array.from({ length: 8 }, (_, i) => {
        const angle = (2 * Math.PI * (i + 0.37)) / 8;
        const far = 1.6 * level.alpha + 0.9 * level.sigma; // of the noisy points, the outer ones
        return [far * Math.cos(angle), far * Math.sin(angle)];
      }),
    );
  });
  (root.querySelector('[data-do="clear"]') as HTMLButtonElement).addEventListener('click', () => {
    stop();
    soon();
  });
  time.addEventListener('input', () => {
    stop();
    start = Number(time.value);
    soon();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    colours = palette();
    soon();
  });
  draw();
}
