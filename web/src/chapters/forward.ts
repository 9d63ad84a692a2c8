/** Drag the time and watch a glyph drown: x_t = alpha * x0 + sigma * eps. */

import { standardNormal } from '../diffusion/noise';
import { schedule, signal } from '../diffusion/schedules';
import { mix } from '../diffusion/vectors';
import { paint } from '../paint';
import { tr } from '../strings';

interface Data {
  glyphs: { character: string; definition: string; pixels: number[] }[];
}

export async function forward(root: HTMLElement): Promise<void> {
  const { glyphs }: Data = await (await fetch('data/glyphs.json')).json();
  const find = <E extends HTMLElement>(name: string) => root.querySelector(`[name="${name}"]`) as E & { value: string };
  const [time, path, glyph] = [find<HTMLInputElement>('t'), find<HTMLSelectElement>('schedule'), find<HTMLSelectElement>('glyph')];
  glyphs.forEach((g, i) => glyph.add(new Option(`${g.character}, ${g.definition}`, `${i}`)));
  const side = Math.sqrt(glyphs[0].pixels.length);
  const eps = standardNormal(0, 0, 0, side * side);
  const canvas = (name: string) => root.querySelector(`canvas[data-view="${name}"]`) as HTMLCanvasElement;

  function update() {
    const level = schedule(path.value).level(Number(time.value));
    const x0 = Float32Array.from(glyphs[Number(glyph.value)].pixels, (v) => v / 127.5 - 1);
    paint(canvas('x0'), x0);
    paint(canvas('eps'), eps, -3, 3);
    paint(canvas('x'), mix([level.alpha, x0], [level.sigma, eps]), -Math.max(1, 3 * level.sigma), Math.max(1, 3 * level.sigma));
    const words = tr('t = {1}: alpha {2}, sigma {3}; {4}% signal', level.t.toFixed(0), level.alpha.toFixed(3), level.sigma.toFixed(3), (100 * signal(level)).toFixed(0));
    (root.querySelector('output') as HTMLOutputElement).value = words;
    time.setAttribute('aria-valuetext', words);
  }
  for (const control of [time, path, glyph]) control.addEventListener('input', update);
  update();
}
