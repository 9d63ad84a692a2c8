/** The playground: a prompt, a few settings, and the model at work; scrub, pin, compare, share, save. */

import type { Engine } from './engine/engine';
import type { Request, Step } from './engine/messages';
import { SAMPLERS } from './diffusion/samplers';
import { animation, outline, paint, save } from './paint';

const START: Request = { prompt: 'gold', steps: 20, sampler: 'dpmpp-2m', guidance: 5, seed: 0, picture: 0 };
const LIMITS = { steps: [1, 120], guidance: [0, 15], seed: [0, 2 ** 32 - 1] } as const;

/** The settings that a link carries, or null where it carries none. */
export function fromLink(hash: string): Request | null {
  const given = new URLSearchParams(hash.replace(/^#/, ''));
  if (!given.has('prompt')) return null;
  const number = (name: keyof typeof LIMITS) => {
    const [low, high] = LIMITS[name];
    const value = Number(given.get(name) ?? START[name]);
    return Number.isFinite(value) ? Math.min(Math.max(value, low), high) : START[name];
  };
  const sampler = given.get('sampler') ?? '';
  return {
    prompt: (given.get('prompt') ?? '').slice(0, 300),
    steps: Math.round(number('steps')),
    sampler: Object.hasOwn(SAMPLERS, sampler) ? sampler : START.sampler,
    guidance: number('guidance'),
    seed: Math.round(number('seed')),
    picture: 0,
  };
}

export function toLink(request: Request): string {
  const { prompt, steps, sampler, guidance, seed } = request;
  return `#${new URLSearchParams({ prompt, steps: `${steps}`, sampler, guidance: `${guidance}`, seed: `${seed}` })}`;
}

export class Playground {
  private steps: Step[] = [];
  private final: Float32Array | null = null;
  private drawing: Request = START; // what the steps and the final picture are of
  private run = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly engines: Record<string, Engine>,
  ) {
    const sampler = this.field<HTMLSelectElement>('sampler');
    for (const name of Object.keys(SAMPLERS)) sampler.add(new Option(name, name));
    const engine = this.field<HTMLSelectElement>('engine');
    for (const name of Object.keys(engines)) engine.add(new Option(name, name));
    (engine.closest('label') as HTMLElement).hidden = Object.keys(engines).length < 2;
    this.show(fromLink(location.hash) ?? START);
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.draw();
    });
    this.button('stop').addEventListener('click', () => this.stop());
    this.button('pin').addEventListener('click', () => this.pin());
    this.button('share').addEventListener('click', () => void this.share());
    this.button('png').addEventListener('click', () => this.savePng());
    this.button('svg').addEventListener('click', () => this.saveSvg());
    this.button('gif').addEventListener('click', () => void this.saveGif());
    this.field('time').addEventListener('input', () => this.look(Number(this.field('time').value)));
    for (const name of ['steps', 'guidance']) this.field(name).addEventListener('input', () => this.echo());
    addEventListener('hashchange', () => {
      const wanted = fromLink(location.hash);
      if (wanted && toLink(wanted) !== toLink(this.request)) {
        this.show(wanted);
        void this.draw();
      }
    });
    if (fromLink(location.hash)) void this.draw();
  }

  get request(): Request {
    return {
      prompt: this.field('prompt').value,
      steps: Number(this.field('steps').value),
      sampler: this.field('sampler').value,
      guidance: Number(this.field('guidance').value),
      seed: Math.max(0, Math.round(Number(this.field('seed').value) || 0)),
      picture: 0,
    };
  }

  private get form() {
    return this.root.querySelector('form') as HTMLFormElement;
  }

  private get engine(): Engine {
    return this.engines[this.field<HTMLSelectElement>('engine').value];
  }

  private stopEngines() {
    for (const engine of Object.values(this.engines)) engine.stop();
  }

  private field<E extends HTMLInputElement | HTMLSelectElement = HTMLInputElement>(name: string): E {
    return this.root.querySelector(`[name="${name}"]`) as E;
  }

  private button(name: string) {
    return this.root.querySelector(`[data-do="${name}"]`) as HTMLButtonElement;
  }

  private canvas(name: string) {
    return this.root.querySelector(`canvas[data-view="${name}"]`) as HTMLCanvasElement;
  }

  private say(text: string, wrong = false) {
    const status = this.root.querySelector('[role="status"]') as HTMLElement;
    status.textContent = text;
    status.classList.toggle('wrong', wrong);
  }

  private show(request: Request) {
    for (const name of ['prompt', 'steps', 'sampler', 'guidance', 'seed'] as const) this.field(name).value = `${request[name]}`;
    this.echo();
  }

  private echo() {
    for (const name of ['steps', 'guidance']) {
      (this.root.querySelector(`output[for="${name}"]`) as HTMLOutputElement).value = this.field(name).value;
    }
  }

  async draw(): Promise<void> {
    const [request, engine, run] = [this.request, this.engine, ++this.run];
    this.stopEngines();
    history.replaceState(null, '', toLink(request));
    this.root.classList.add('busy');
    const bar = this.root.querySelector('progress') as HTMLProgressElement;
    try {
      this.say('loading the model ...');
      bar.hidden = false;
      const began = performance.now();
      const by = await engine.load((loaded, total) => {
        if (run !== this.run) return;
        bar.max = total;
        bar.value = loaded;
        const left = ((performance.now() - began) / 1000) * (total / Math.max(loaded, 1) - 1);
        const time = loaded < total ? `, ${Math.ceil(left)} s left` : '; waking it up';
        this.say(`loading the model: ${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB${time}`);
      });
      if (run !== this.run) return;
      bar.removeAttribute('value');
      this.steps = [];
      this.final = null;
      this.drawing = request;
      (this.root.querySelector('[data-engine]') as HTMLElement).textContent = by;
      const drawn = await engine.draw(request, (step) => {
        if (run !== this.run) return;
        this.steps.push(step);
        bar.max = request.steps;
        bar.value = this.steps.length;
        this.say(`step ${this.steps.length} of ${request.steps}`);
        this.look(this.steps.length - 1);
      });
      if (run !== this.run || !drawn) return;
      this.final = drawn.pixels;
      this.look(this.steps.length);
      this.say(`drawn in ${drawn.seconds.toFixed(1)} s`);
      this.root.dispatchEvent(new CustomEvent('drawn', { detail: drawn, bubbles: true }));
    } catch (error) {
      if (run === this.run) this.say(error instanceof Error ? error.message : String(error), true);
    } finally {
      if (run === this.run) {
        bar.hidden = true;
        this.root.classList.remove('busy');
      }
    }
  }

  private stop() {
    this.run++;
    this.stopEngines();
    this.root.classList.remove('busy');
    (this.root.querySelector('progress') as HTMLElement).hidden = true;
    this.say('stopped');
  }

  /** Show step n, the finished picture being one more. */
  private look(n: number) {
    const time = this.field('time');
    const last = this.steps.length - (this.final ? 0 : 1);
    const at = Math.min(Math.max(n, 0), last);
    time.max = `${Math.max(last, 0)}`;
    time.value = `${at}`;
    const step = this.steps[Math.min(at, this.steps.length - 1)];
    const finished = this.final && at === this.steps.length ? this.final : null;
    if (!step) return;
    paint(this.canvas('x'), finished ?? step.x, -1, 1);
    paint(this.canvas('x0'), finished ?? step.x0, -1, 1);
    paint(this.canvas('eps'), step.eps, -3, 3);
    const caption = finished ? 'finished, t = 0' : `step ${at + 1}, t = ${step.t.toFixed(0)}`;
    (this.root.querySelector('output[for="time"]') as HTMLOutputElement).value = caption;
    time.setAttribute('aria-valuetext', caption);
    this.canvas('x').setAttribute('aria-label', `The noisy picture for "${this.drawing.prompt}", ${caption}`);
    this.canvas('x0').setAttribute('aria-label', `The model's guess at the clean picture for "${this.drawing.prompt}", ${caption}`);
    this.canvas('eps').setAttribute('aria-label', `The model's guess at the noise, ${caption}`);
  }

  private pin() {
    if (!this.final) return this.say('draw something first', true);
    const list = this.root.querySelector('[data-pins]') as HTMLElement;
    const [request, pixels] = [this.drawing, this.final];
    const item = document.createElement('li');
    const button = document.createElement('button');
    const canvas = document.createElement('canvas');
    paint(canvas, pixels);
    button.type = 'button';
    const caption = `${request.prompt || '(nothing)'} · ${request.sampler} · ${request.steps} steps · guidance ${request.guidance} · seed ${request.seed}`;
    button.append(canvas, Object.assign(document.createElement('span'), { textContent: caption }));
    button.setAttribute('aria-label', `Go back to: ${caption}`);
    button.addEventListener('click', () => {
      this.show(request);
      void this.draw();
    });
    item.append(button);
    list.prepend(item);
  }

  private async share() {
    const link = `${location.href.split('#')[0]}${toLink(this.request)}`;
    history.replaceState(null, '', toLink(this.request));
    try {
      await navigator.clipboard.writeText(link);
      this.say('the link is copied');
    } catch {
      this.say('the link is in the address bar');
    }
  }

  private name(end: string) {
    const words = this.drawing.prompt.toLowerCase().replace(/[^a-z0-9]+/g, '-').slice(0, 40) || 'glyph';
    return `${words}-${this.drawing.seed}.${end}`;
  }

  private savePng() {
    if (!this.final) return this.say('draw something first', true);
    const canvas = document.createElement('canvas');
    paint(canvas, this.final);
    canvas.toBlob((blob) => blob && save(this.name('png'), blob));
  }

  private saveSvg() {
    if (!this.final) return this.say('draw something first', true);
    save(this.name('svg'), new Blob([outline(this.final)], { type: 'image/svg+xml' }));
  }

  private async saveGif() {
    if (!this.final) return this.say('draw something first', true);
    const bytes = await animation([...this.steps.map((s) => s.x), this.steps[this.steps.length - 1].x0]);
    save(this.name('gif'), new Blob([bytes as BlobPart], { type: 'image/gif' }));
  }
}
