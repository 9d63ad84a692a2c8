/** The large picture: it forms while steps arrive, plays again, and can be scrubbed; beside it, when wanted, what is inside a step. */

import type { Step } from './engine/messages';
import { paint } from './paint';
import { tr } from './strings';

const PACE = 130; // milliseconds a step, less where there are many
const LONGEST = 6000;

export class Player {
  steps: Step[] = [];
  final: Float32Array | null = null;
  private at = 0;
  private prompt = '';
  private remark = tr('finished');
  private playing = 0; // the animation frame that is waited for
  private readonly large: HTMLCanvasElement;
  private readonly time: HTMLInputElement;
  private readonly button: HTMLButtonElement;

  constructor(
    private readonly root: HTMLElement,
    /** Steps of the finished picture, where it came without. */
    private readonly fetchSteps: () => Promise<Step[] | null>,
    private readonly looked: (n: number, last: number) => void,
  ) {
    this.large = root.querySelector('canvas[data-view="large"]') as HTMLCanvasElement;
    this.time = root.querySelector('[name="time"]') as HTMLInputElement;
    this.button = root.querySelector('[data-do="play"]') as HTMLButtonElement;
    this.time.addEventListener('input', () => {
      this.pause();
      this.look(Number(this.time.value));
    });
    this.button.addEventListener('click', () => (this.playing ? this.pause() : void this.replay()));
  }

  /** A drawing begins: steps will come. */
  begin(prompt: string): void {
    this.pause();
    [this.steps, this.final, this.prompt] = [[], null, prompt];
    this.refresh();
  }

  add(step: Step): void {
    this.steps.push(step);
    this.look(this.steps.length - 1);
  }

  /** A finished picture, with the steps to it where they are known. */
  present(prompt: string, steps: Step[], final: Float32Array, remark = tr('finished')): void {
    this.pause();
    [this.steps, this.final, this.prompt, this.remark] = [steps, final, prompt, remark];
    this.look(steps.length);
  }

  /** A first look at a picture that is still being made. */
  glimpse(prompt: string, picture: Float32Array, remark: string): void {
    this.begin(prompt);
    paint(this.large, picture);
    this.large.classList.remove('coarse');
    this.caption(remark);
  }

  /** Noise alone, while the model is on its way. */
  wait(prompt: string, noise: Float32Array): void {
    this.begin(prompt);
    paint(this.large, noise);
    this.large.classList.add('coarse');
    this.caption(tr('pure noise'));
  }

  async replay(): Promise<void> {
    if (!this.steps.length && this.final) {
      const [final, steps] = [this.final, await this.fetchSteps()];
      if (!steps || this.final !== final) return;
      this.steps = steps;
    }
    this.play(this.final && this.at < this.steps.length ? this.at : 0);
  }

  play(from = 0): void {
    this.pause();
    if (!this.steps.length) return;
    const pace = Math.min(PACE, LONGEST / this.steps.length);
    const began = performance.now() - from * pace;
    const frame = (now: number) => {
      const n = Math.min(Math.floor((now - began) / pace), this.steps.length);
      if (n !== this.at) this.look(n);
      if (n < this.steps.length) this.playing = requestAnimationFrame(frame);
      else this.pause();
    };
    this.look(from);
    this.playing = requestAnimationFrame(frame);
    this.refresh();
  }

  pause(): void {
    cancelAnimationFrame(this.playing);
    this.playing = 0;
    this.refresh();
  }

  /** Show step n; the finished picture is one more. */
  look(n: number): void {
    const last = this.steps.length - (this.final ? 0 : 1);
    this.at = Math.min(Math.max(n, 0), Math.max(last, 0));
    const finished = this.final && this.at === this.steps.length ? this.final : null;
    const step = this.steps[this.at];
    this.time.max = `${Math.max(last, 0)}`;
    this.time.value = `${this.at}`;
    paint(this.large, finished ?? step.x);
    this.large.classList.toggle('coarse', !finished);
    this.caption(finished ? this.remark : tr('step {1} of {2}, t = {3}', this.at + 1, this.steps.length, step.t.toFixed(0)));
    this.panels();
    this.refresh();
    this.looked(this.at, last);
  }

  /** The insides of the step that is shown; of a finished picture, where it came from. */
  panels(): void {
    const place = this.root.querySelector('[data-panels]') as HTMLElement;
    if (place.hidden) return;
    const finished = this.final && this.at === this.steps.length;
    const early = Math.max(1, Math.round(this.steps.length / 7)); // where guesses still differ from the end
    const [first, later] = [this.steps[0], this.steps[early]];
    const step = this.steps[this.at];
    const views: [Float32Array | undefined, number, string][] = finished
      ? [
          [first?.x, 1, tr('the initial noise')],
          [first?.x0, 1, tr('the first prediction')],
          [later?.x0, 1, tr('the prediction at step {1}', early + 1)],
        ]
      : [
          [step?.x, 1, tr('the noisy picture')],
          [step?.x0, 1, tr('the predicted picture')],
          [step?.eps, 3, tr('the predicted noise')],
        ];
    [...place.querySelectorAll('figure')].forEach((figure, i) => {
      const [values, reach, caption] = views[i];
      const canvas = figure.querySelector('canvas') as HTMLCanvasElement;
      if (values) paint(canvas, values, -reach, reach);
      else canvas.width = canvas.height = 64;
      const text = values ? caption : tr('press play to see the steps');
      (figure.querySelector('figcaption') as HTMLElement).textContent = text;
      canvas.setAttribute('aria-label', text);
    });
  }

  private caption(text: string): void {
    (this.root.querySelector('output[for="time"]') as HTMLOutputElement).value = text;
    this.time.setAttribute('aria-valuetext', text);
    this.large.setAttribute('aria-label', tr('A drawn character for “{1}”: {2}', this.prompt, text));
  }

  private refresh(): void {
    const name = this.playing ? tr('Pause') : tr('Play');
    if (this.button.dataset.shows !== name) {
      this.button.dataset.shows = name;
      this.button.setAttribute('aria-label', name);
    }
    this.button.disabled = !this.final && !this.steps.length;
    this.time.disabled = !this.steps.length;
  }
}
