/** Numbers as pixels, and pixels as files. */

import { contours } from 'd3-contour';
import { tr } from './strings';

/** Paint a picture [C, S, S], `low` black and `high` white. */
export function paint(canvas: HTMLCanvasElement, values: ArrayLike<number>, low = -1, high = 1): void {
  const channels = [1, 3].find((c) => Number.isInteger(Math.sqrt(values.length / c))) ?? 1;
  const side = Math.sqrt(values.length / channels);
  if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
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

/** The ink's outline where the picture crosses half grey, as an SVG path in a square of its own side. */
export function outlinePath(values: ArrayLike<number>): string {
  const side = Math.sqrt(values.length);
  const ink = Array.from(values, (v) => -v);
  const shape = contours().size([side, side]).smooth(true).contour(ink, 0);
  const rings = shape.coordinates.flat();
  return rings.map((ring) => `M${ring.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join('L')}Z`).join('');
}

/** The same as an SVG file. */
export function outline(values: ArrayLike<number>): string {
  const side = Math.sqrt(values.length);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${side} ${side}"><path fill-rule="evenodd" d="${outlinePath(values)}"/></svg>\n`;
}

/** Text in lines that fit, at most so many; the last ends in … where there is more. */
export function wrapped(text: string, room: number, most: number, width: (text: string) => number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.trim().split(/\s+/)) {
    const longer = line ? `${line} ${word}` : word;
    if (line && width(longer) > room) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  lines.push(line);
  const kept = lines.slice(0, most);
  return kept.map((one, i) => {
    const more = i === most - 1 && lines.length > most;
    if (!more && width(one) <= room) return one;
    const letters = [...one];
    while (letters.length && width(`${letters.join('')}…`) > room) letters.pop();
    return `${letters.join('')}…`;
  });
}

/** A picture to share, 1200x630: the glyph large, what was asked for, and what its radical means. */
export function shareCard(values: Float32Array, prompt: string, radical: string | null): HTMLCanvasElement {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1200, height: 630 });
  const pen = canvas.getContext('2d') as CanvasRenderingContext2D;
  pen.fillStyle = '#fbfaf7';
  pen.fillRect(0, 0, 1200, 630);
  pen.fillStyle = '#ffffff';
  pen.fillRect(55, 55, 520, 520);
  const [side, grey] = [520, values.length === Math.round(Math.sqrt(values.length)) ** 2];
  pen.save();
  pen.translate(55, 55);
  if (grey) {
    pen.scale(side / Math.sqrt(values.length), side / Math.sqrt(values.length));
    pen.fillStyle = '#1d1b18';
    pen.fill(new Path2D(outlinePath(values)), 'evenodd');
  } else {
    const picture = document.createElement('canvas');
    paint(picture, values);
    pen.drawImage(picture, 0, 0, side, side);
  }
  pen.restore();
  const fonts = "'Iowan Old Style', 'Palatino Linotype', Palatino, 'Noto Serif', 'zaozi text', 'zaozi hero', 'zaozi parts', serif";
  let y = 130;
  const write = (text: string, size: number, ink: string, most = 1) => {
    pen.font = `${size}px ${fonts}`;
    pen.fillStyle = ink;
    for (const line of wrapped(text, 520, most, (t) => pen.measureText(t).width)) {
      pen.fillText(line, 630, y);
      y += size * 1.25;
    }
  };
  write(`“${prompt.trim()}”`, 60, '#1d1b18', 3);
  y += 10;
  if (radical) write(radical, 36, '#5d584f', 2);
  y = 505;
  write(tr('a character drawn by a small model'), 28, '#5d584f');
  y = 560;
  write('zaozi 造字', 44, '#a8321f');
  return canvas;
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
