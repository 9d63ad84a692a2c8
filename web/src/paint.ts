/** Numbers as pixels, and pixels as files. */

import { contours } from 'd3-contour';

/** Paint a picture [C, S, S], `low` black and `high` white. */
export function paint(canvas: HTMLCanvasElement, values: ArrayLike<number>, low = -1, high = 1): void {
  const channels = [1, 3].find((c) => Number.isInteger(Math.sqrt(values.length / c))) ?? 1;
  const side = Math.sqrt(values.length / channels);
  canvas.width = canvas.height = side;
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  const image = context.createImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) {
      const value = values[channels === 3 ? c * side * side + i : i];
      image.data[4 * i + c] = Math.round((255 * (Math.min(Math.max(value, low), high) - low)) / (high - low));
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** The ink's outline where the picture crosses half grey, as an SVG file. */
export function outline(values: ArrayLike<number>): string {
  const side = Math.sqrt(values.length);
  const ink = Array.from(values, (v) => -v);
  const shape = contours().size([side, side]).smooth(true).contour(ink, 0);
  const rings = shape.coordinates.flat();
  const path = rings.map((ring) => `M${ring.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join('L')}Z`).join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${side} ${side}"><path fill-rule="evenodd" d="${path}"/></svg>\n`;
}

/** Frames [S, S] in [-1, 1] as an animated GIF, drawn large. */
export async function animation(frames: readonly ArrayLike<number>[], delay = 90): Promise<Uint8Array> {
  const { GIFEncoder } = await import('gifenc');
  const palette = Array.from({ length: 256 }, (_, i) => [i, i, i]);
  const gif = GIFEncoder();
  frames.forEach((frame, n) => {
    const side = Math.sqrt(frame.length);
    const scale = Math.max(1, Math.round(256 / side));
    const large = new Uint8Array((side * scale) ** 2);
    for (let y = 0; y < side * scale; y++) {
      for (let x = 0; x < side * scale; x++) {
        const value = frame[Math.floor(y / scale) * side + Math.floor(x / scale)];
        large[y * side * scale + x] = Math.round(127.5 * (Math.min(Math.max(value, -1), 1) + 1));
      }
    }
    gif.writeFrame(large, side * scale, side * scale, { palette, delay: n === frames.length - 1 ? 1500 : delay });
  });
  gif.finish();
  return gif.bytes();
}

export function save(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
