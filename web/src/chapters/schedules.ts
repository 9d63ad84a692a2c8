/** The share of the signal (alpha_bar, where alpha² + sigma² = 1) and log-SNR of the three schedules, with a line at the time one points to. */

import { T, logsnr, schedule, signal } from '../diffusion/schedules';
import { tr } from '../strings';

const NAMES = ['linear', 'cosine', 'linear_path'] as const;
const SAID = () => [tr('linear'), tr('cosine'), tr('straight path')];
const WIDTH = 420;
const HEIGHT = 200;

export function schedules(root: HTMLElement): void {
  const paths = NAMES.map((name) => schedule(name));
  const charts = [
    { title: tr('Fraction of signal, alpha² / (alpha² + sigma²),'), low: 0, high: 1, of: (t: number, k: number) => signal(paths[k].level(t)) },
    { title: tr('Log signal-to-noise ratio'), low: -12, high: 12, of: (t: number, k: number) => logsnr(paths[k].level(t)) },
  ];
  const time = root.querySelector('[name="at"]') as HTMLInputElement;
  const drawings = root.querySelectorAll<SVGElement>('[data-charts] svg');
  const lines = charts.map((chart, n) => {
    const svg = drawings[n];
    svg.setAttribute('aria-label', tr('{1} over time, for the schedules {2}', chart.title, SAID().join(', ')));
    const y = (v: number) => HEIGHT - 10 - ((Math.min(Math.max(v, chart.low), chart.high) - chart.low) / (chart.high - chart.low)) * (HEIGHT - 20);
    const x = (t: number) => 10 + (t / T) * (WIDTH - 20);
    const path = NAMES.map((name, k) => {
      const points = Array.from({ length: 201 }, (_, i) => (i * T) / 200).map((t) => `${x(t).toFixed(1)},${y(chart.of(t, k)).toFixed(1)}`);
      return `<polyline class="line ${name}" points="${points.join(' ')}"/>`;
    });
    svg.innerHTML = `${path.join('')}<line class="at" y1="8" y2="${HEIGHT - 8}"/>`;
    return { line: svg.querySelector('.at') as SVGLineElement, x };
  });
  function update() {
    const t = Number(time.value);
    for (const { line, x } of lines) {
      line.setAttribute('x1', `${x(t)}`);
      line.setAttribute('x2', `${x(t)}`);
    }
    const words = SAID().map((name, k) => `${name} ${(100 * signal(paths[k].level(t))).toFixed(1)}%`).join(', ');
    (root.querySelector('output') as HTMLOutputElement).value = `t = ${t}: ${words}`;
    time.setAttribute('aria-valuetext', words);
  }
  time.addEventListener('input', update);
  update();
}
