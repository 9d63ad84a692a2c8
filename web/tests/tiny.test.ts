import { expect, test } from 'vitest';
import { SHAPES } from '../src/chapters/training';
import { standardNormal } from '../src/diffusion/noise';
import { ddim } from '../src/diffusion/samplers';
import { levels } from '../src/diffusion/schedules';
import { Tiny } from '../src/diffusion/tiny';

async function drawn(model: Tiny, count: number): Promise<[number, number][]> {
  const x = await ddim(model.denoise, Float64Array.from(standardNormal(5, 0, 0, 2 * count)), levels(model.path, 20), () => new Float32Array(0));
  return Array.from({ length: count }, (_, i) => [x[2 * i], x[2 * i + 1]]);
}

test('a tiny model learns a ring from points', async () => {
  const model = new Tiny(1);
  const points = SHAPES.ring();
  const off = async () => {
    const found = await drawn(model, 200);
    return found.reduce((sum, [x, y]) => sum + Math.abs(Math.hypot(x, y) - 1.2), 0) / found.length;
  };
  const before = await off();
  let [first, last] = [0, 0];
  for (let i = 0; i < 1500; i++) {
    const loss = model.step(points);
    if (i < 100) first += loss / 100;
    if (i >= 1400) last += loss / 100;
  }
  expect(last).toBeLessThan(0.9 * first); // most of it is what nobody can know
  expect(await off()).toBeLessThan(0.12);
  expect(before).toBeGreaterThan(0.5);
  const angles = (await drawn(model, 200)).map(([x, y]) => Math.floor(((Math.atan2(y, x) + Math.PI) / (2 * Math.PI)) * 8) % 8);
  expect(new Set(angles).size, 'all around').toBe(8);
});

test('its gradient is that of its loss', () => {
  // two models that differ in one weight: the same batch, and the loss changes by the gradient
  const points = SHAPES.cross();
  const inside = (model: Tiny) => (model as unknown as { layers: { values: Float64Array; gradient: Float64Array }[] }).layers;
  for (const [layer, at] of [[0, 5], [1, 700], [2, 31], [1, 64 * 64 + 3]]) {
    const [plain, moved] = [new Tiny(2), new Tiny(2)];
    const size = 1e-6;
    inside(moved)[layer].values[at] += size;
    const [a, b] = [plain.step(points), moved.step(points)];
    expect((b - a) / size).toBeCloseTo(inside(plain)[layer].gradient[at], 4);
  }
});
