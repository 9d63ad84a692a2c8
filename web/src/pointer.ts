/** Where on a canvas the pointer is, and drawing with it. */

export type Point = [number, number];

/** The place of the pointer as shares of the canvas's sides, from its upper left corner. */
export function shares(canvas: HTMLCanvasElement, event: PointerEvent): Point {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

/** Draw while the pointer is down: `begin` at its first place, then `go` with each further one. */
export function drawing(canvas: HTMLCanvasElement, begin: (at: Point) => void, go: (to: Point) => void): void {
  let down = false;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    down = true;
    begin(shares(canvas, event));
  });
  canvas.addEventListener('pointermove', (event) => down && go(shares(canvas, event)));
  for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => (down = false));
}
