/** Gestures on the map: the page scrolls over it, and only what is meant for the map moves it. */

import type createScatterplot from 'regl-scatterplot';

interface Camera {
  scaling: number[];
  scale(by: [number, number], around: [number, number]): void;
  pan(by: [number, number]): void;
  setScaleBounds(bounds: [number, number][]): void;
}
const NEAREST = 400;

/**
 * Ctrl and the wheel (which is also how browsers report a pinch on a touchpad) zoom, and so do two fingers; a plain wheel and one
 * finger scroll the page, and `hint` shows for a moment how to zoom.
 */
export function onlyOnPurpose(plot: ReturnType<typeof createScatterplot>, box: HTMLElement, hint: HTMLElement) {
  const camera = plot.get('camera') as unknown as Camera;
  camera.setScaleBounds([
    [0.9, NEAREST],
    [0.9, NEAREST],
  ]);
  let timer = 0;

  function tell() {
    hint.classList.add('shown');
    clearTimeout(timer);
    timer = window.setTimeout(() => hint.classList.remove('shown'), 1500);
  }

  /** Where a place of the window is for the camera, whose heights run from -1 to 1. */
  function place(x: number, y: number): [number, number] {
    const { left, top, width, height } = box.getBoundingClientRect();
    return [((2 * (x - left)) / width - 1) * (width / height), 1 - (2 * (y - top)) / height];
  }

  box.addEventListener(
    'wheel',
    (event) => {
      if (event.ctrlKey || event.metaKey) return;
      event.stopPropagation(); // the map's own listener would take it
      tell();
    },
    { capture: true, passive: true },
  );

  let before: { middle: [number, number]; apart: number } | null = null;
  const fingers = ({ touches: [a, b] }: TouchEvent) => ({
    middle: place((a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2),
    apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
  });
  box.addEventListener('touchstart', (event) => (before = event.touches.length === 2 ? fingers(event) : null), { passive: true });
  box.addEventListener('touchend', () => (before = null), { passive: true });
  box.addEventListener(
    'touchmove',
    (event) => {
      if (event.touches.length !== 2 || !before) return event.touches.length === 1 ? tell() : undefined;
      event.preventDefault();
      const now = fingers(event);
      const by = now.apart / Math.max(before.apart, 1);
      camera.pan([now.middle[0] - before.middle[0], now.middle[1] - before.middle[1]]);
      camera.scale([by, by], now.middle);
      plot.redraw();
      before = now;
    },
    { passive: false },
  );

  return {
    zoom(by: number) {
      camera.scale([by, by], [0, 0]);
      plot.redraw();
    },
  };
}
