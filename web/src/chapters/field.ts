/** A score field one can drop points into: they go home along the probability-flow ODE (the score's arrows, and the stretching that undoes the shrinking). */

import { type Part, estimate, logDensity, score } from '../diffusion/mixture';
import { ddim } from '../diffusion/samplers';
import { type Level, levels, schedule } from '../diffusion/schedules';

const REACH = 3; // the plane shown is [-REACH, REACH]^2
const PARTS: Part[] = Array.from({ length: 7 }, (_, i) => {
  const angle = (2 * Math.PI * i) / 7;
  return { mean: [1.6 * Math.cos(angle), 1.6 * Math.sin(angle)], std: 0.16, weight: 1 / 7 };
});

export function field(root: HTMLElement): void {
  const canvas = root.querySelector('canvas') as HTMLCanvasElement;
  const time = root.querySelector('[name="t"]') as HTMLInputElement;
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  const path = schedule('cosine');
  const side = canvas.width;
  const toPixel = (v: number) => ((v / REACH + 1) * side) / 2;
  const toPlane = (p: number) => ((2 * p) / side - 1) * REACH;
  let drops: { trail: number[][]; shown: number }[] = [];
  let background: { t: number; image: ImageData } | null = null;
  const colour = (name: string) => getComputedStyle(root).getPropertyValue(name).trim();

  function density(level: Level): ImageData {
    if (background?.t === level.t) return background.image;
    const image = context.createImageData(side, side);
    const cells = 120;
    const values = new Float64Array(cells * cells);
    for (let i = 0; i < values.length; i++) {
      const at = [toPlane(((i % cells) + 0.5) * (side / cells)), -toPlane((Math.floor(i / cells) + 0.5) * (side / cells))];
      values[i] = logDensity(PARTS, at, level);
    }
    const top = values.reduce((a, b) => Math.max(a, b));
    const ink = [...colour('--accent-rgb').split(',').map(Number)];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const v = values[Math.floor((y * cells) / side) * cells + Math.floor((x * cells) / side)];
        image.data.set([ink[0], ink[1], ink[2], Math.round(110 * Math.exp(v - top))], 4 * (y * side + x));
      }
    }
    background = { t: level.t, image };
    return image;
  }

  function arrow(x: number, y: number, dx: number, dy: number) {
    const size = Math.hypot(dx, dy) || 1;
    const [ux, uy] = [(3.5 * dx) / size, (3.5 * dy) / size];
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + dx, y + dy);
    context.stroke();
    context.beginPath();
    context.moveTo(x + dx + ux, y + dy + uy);
    context.lineTo(x + dx - 0.6 * uy, y + dy + 0.6 * ux);
    context.lineTo(x + dx + 0.6 * uy, y + dy - 0.6 * ux);
    context.fill();
  }

  function draw() {
    const level = path.level(Number(time.value));
    context.clearRect(0, 0, side, side);
    context.putImageData(density(level), 0, 0);
    context.strokeStyle = context.fillStyle = colour('--muted');
    context.lineWidth = 1;
    for (let i = 0; i < 21; i++) {
      for (let j = 0; j < 21; j++) {
        const at = [toPlane(((i + 0.5) * side) / 21), toPlane(((j + 0.5) * side) / 21)];
        const s = score(PARTS, at, level);
        const size = Math.hypot(s[0], s[1]);
        const length = (11 * Math.sqrt(size)) / (1 + Math.sqrt(size)) / Math.max(size, 1e-9);
        const [x, y] = [toPixel(at[0]), side - toPixel(at[1])];
        arrow(x, y, s[0] * length, -s[1] * length);
      }
    }
    context.strokeStyle = context.fillStyle = colour('--accent');
    context.lineWidth = 2;
    for (const { trail, shown } of drops) {
      context.beginPath();
      trail.slice(0, shown).forEach(([x, y], i) => context[i ? 'lineTo' : 'moveTo'](toPixel(x), side - toPixel(y)));
      context.stroke();
      const [x, y] = trail[Math.min(shown, trail.length) - 1];
      context.beginPath();
      context.arc(toPixel(x), side - toPixel(y), 4, 0, 7);
      context.fill();
    }
    (root.querySelector('output') as HTMLOutputElement).value = `t = ${level.t}`;
  }

  /** Where the flow takes a point from the time shown: the very sampler, in small steps. */
  async function flow(at: number[]): Promise<number[][]> {
    const from = Number(time.value);
    const grid = [path.level(from), ...levels(path, 120).filter((l) => l.t < from)];
    const trail: number[][] = [];
    const end = await ddim(
      async (x, level) => estimate(PARTS, x, level),
      Float64Array.from(at),
      grid,
      () => new Float32Array(2),
      (_, x) => void trail.push([...x]),
    );
    return [...trail, [...end]];
  }

  async function drop(at: number[]) {
    const trail = await flow(at);
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const made = { trail, shown: still ? trail.length : 1 };
    drops = [...drops.slice(-40), made];
    const step = () => {
      draw();
      if (made.shown < trail.length) {
        made.shown++;
        requestAnimationFrame(step);
      }
    };
    step();
  }

  canvas.addEventListener('pointerdown', (event) => {
    const box = canvas.getBoundingClientRect();
    void drop([toPlane(((event.clientX - box.left) / box.width) * side), -toPlane(((event.clientY - box.top) / box.height) * side)]);
  });
  (root.querySelector('[data-do="drop"]') as HTMLButtonElement).addEventListener('click', () => {
    const level = path.level(Number(time.value));
    for (let i = 0; i < 8; i++) {
      const angle = (2 * Math.PI * (i + 0.37)) / 8;
      const far = 0.4 + 2.2 * level.sigma;
      void drop([far * Math.cos(angle), far * Math.sin(angle)]);
    }
  });
  (root.querySelector('[data-do="clear"]') as HTMLButtonElement).addEventListener('click', () => {
    drops = [];
    draw();
  });
  time.addEventListener('input', () => {
    drops = [];
    draw();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    background = null;
    draw();
  });
  draw();
}
