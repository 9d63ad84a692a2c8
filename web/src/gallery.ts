/** The seeds around the large picture: nine small ones, of which a click makes one large. */

import { paint } from './paint';
import { tr } from './strings';

export class Gallery {
  private readonly cells: { button: HTMLButtonElement; canvas: HTMLCanvasElement; seed: number }[];

  constructor(root: HTMLElement, count: number, chosen: (seed: number) => void) {
    this.cells = Array.from({ length: count }, () => {
      const [button, canvas] = [document.createElement('button'), document.createElement('canvas')];
      canvas.width = canvas.height = 64;
      const cell = { button, canvas, seed: -1 };
      button.type = 'button';
      button.append(canvas);
      button.addEventListener('click', () => chosen(cell.seed));
      return cell;
    });
    root.replaceChildren(...this.cells.map((cell) => cell.button));
  }

  /** Show these seeds; pictures of other settings fade until they are replaced. */
  show(seeds: readonly number[], current: number, picture: (seed: number) => Float32Array | undefined): void {
    this.cells.forEach((cell, i) => {
      cell.seed = seeds[i];
      const pixels = picture(cell.seed);
      if (pixels) paint(cell.canvas, pixels);
      cell.button.classList.toggle('stale', !pixels);
      cell.button.setAttribute('aria-label', tr('Seed {1}', cell.seed));
      cell.button.setAttribute('aria-pressed', `${cell.seed === current}`);
    });
  }

  put(seed: number, pixels: ArrayLike<number>, low = -1, high = 1): void {
    const cell = this.cells.find((one) => one.seed === seed);
    if (!cell) return;
    paint(cell.canvas, pixels, low, high);
    cell.button.classList.remove('stale');
  }
}
