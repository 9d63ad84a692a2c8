/** The settings of a drawing as fields of the page. */

import { SAMPLERS } from './diffusion/samplers';
import { halfMask } from './engine/edit';
import { fitting, told, usual } from './engine/choice';
import type { Card, Half } from './engine/messages';
import { DEEPEST, LIMITS, START, type Wanted, depth } from './links';
import { paint } from './paint';
import { tr } from './strings';

const RADICALS = 0x2f00; // of the Kangxi radicals' own code points

/** A value of a property as readers know it: radical 167 is 金. */
export function named(column: string, value: string): string {
  if (column !== 'radical' || !/^\d+$/.test(value)) return tr(value).replaceAll('-', ' ');
  return `${value} ${String.fromCodePoint(RADICALS + Number(value) - 1).normalize('NFKC')}`;
}

export class Options {
  private kept: Wanted['kept'];
  private card: Card | null = null;
  private touched = false; // steps or sampler, by the reader

  constructor(
    private readonly root: HTMLElement,
    changed: () => void,
  ) {
    const sampler = this.field<HTMLSelectElement>('sampler');
    for (const name of Object.keys(SAMPLERS)) sampler.add(new Option(name, name));
    for (const name of ['steps', 'guidance', 'share']) this.field(name).addEventListener('input', () => this.echo());
    for (const name of ['steps', 'sampler']) this.field(name).addEventListener('input', () => (this.touched = true));
    for (const name of ['prompt', 'steps', 'guidance', 'sampler', 'seed', 'structure', 'strokes', 'radical', 'to', 'share']) {
      this.field(name).addEventListener('input', changed);
    }
  }

  get wanted(): Wanted {
    const number = (name: keyof typeof LIMITS) => {
      const [low, high] = LIMITS[name];
      const value = Number(this.field(name).value);
      return Math.min(Math.max(Number.isFinite(value) ? value : low, low), high);
    };
    const wanted: Wanted = {
      prompt: this.field('prompt').value,
      steps: Math.round(number('steps')),
      sampler: this.field('sampler').value,
      guidance: number('guidance'),
      seed: Math.round(number('seed')),
      picture: 0,
    };
    const properties: Record<string, string | number> = {};
    for (const column of ['structure', 'strokes', 'radical']) {
      const { value } = this.field(column);
      if (value) properties[column] = value;
    }
    if (Object.keys(properties).length) wanted.properties = properties;
    const to = this.field('to').value;
    if (to.trim()) Object.assign(wanted, { to, share: number('share') });
    if (this.kept) wanted.kept = this.kept;
    return fitting(wanted, this.card);
  }

  show(wanted: Wanted): void {
    for (const name of ['prompt', 'steps', 'sampler', 'guidance', 'seed'] as const) this.field(name).value = `${wanted[name]}`;
    for (const column of ['structure', 'radical']) this.choose(column, `${wanted.properties?.[column] ?? ''}`);
    this.field('strokes').value = `${wanted.properties?.strokes ?? ''}`;
    this.field('to').value = wanted.to ?? '';
    this.field('share').value = `${wanted.share ?? 0.5}`;
    this.keep(wanted.kept);
    if (this.card) this.limit(this.card);
    this.echo();
  }

  set(values: Partial<Pick<Wanted, 'prompt' | 'seed'>>): void {
    for (const [name, value] of Object.entries(values)) this.field(name).value = `${value}`;
  }

  /** Offer what a model knows; fields that it does not know are hidden. */
  fill(card: Card | null): void {
    if (card) this.limit(card);
    for (const column of ['structure', 'strokes', 'radical']) {
      const property = card?.properties.find((p) => p.column === column);
      const field = this.field<HTMLInputElement | HTMLSelectElement>(column);
      (field.closest('label') as HTMLElement).hidden = !!card && !property;
      if (!property || !(field instanceof HTMLSelectElement)) continue;
      const { value } = field;
      field.replaceChildren(new Option('any', ''), ...property.values.map((v) => new Option(named(column, v), v)));
      this.choose(column, value);
    }
  }

  /** A distilled model takes neither guidance nor a second meaning, which is said in their place; it begins with its own steps. */
  private limit(card: Card): void {
    const { distilled } = card;
    const untouched = !this.touched && this.field('steps').value === `${START.steps}` && this.field('sampler').value === START.sampler;
    if (distilled && untouched) {
      const { steps, sampler } = usual(distilled);
      this.field('steps').value = `${steps}`;
      this.field('sampler').value = sampler;
    }
    this.card = card;
    for (const name of ['guidance', 'to', 'share']) (this.field(name).closest('label') as HTMLElement).hidden = !!distilled;
    (this.field('to').closest('fieldset') as HTMLElement).hidden = !!distilled;
    const place = this.root.querySelector('[data-distilled]') as HTMLElement;
    place.hidden = !distilled;
    place.textContent = told(card);
    this.echo();
  }

  /** Keep half of a drawing, or nothing. */
  keep(kept: Wanted['kept'], pixels?: Float32Array): void {
    this.kept = kept && depth(kept.of) < DEEPEST ? kept : undefined;
    const place = this.root.querySelector('[data-keeping]') as HTMLElement;
    place.hidden = !this.kept;
    if (!this.kept) return;
    const said = { left: tr('left'), right: tr('right'), top: tr('top'), bottom: tr('bottom') };
    (place.querySelector('span') as HTMLElement).textContent = tr('Keeping the {1} half of “{2}”.', said[this.kept.half], this.kept.of.prompt);
    const canvas = place.querySelector('canvas') as HTMLCanvasElement;
    canvas.hidden = !pixels;
    if (pixels) paint(canvas, faded(pixels, this.kept.half));
  }

  private choose(column: string, value: string): void {
    const field = this.field<HTMLSelectElement>(column);
    if (value && ![...field.options].some((option) => option.value === value)) field.add(new Option(named(column, value), value));
    field.value = value;
  }

  private echo(): void {
    for (const name of ['steps', 'guidance', 'share']) {
      const text = name === 'share' ? `${Math.round(100 * Number(this.field(name).value))}%` : this.field(name).value;
      (this.root.querySelector(`output[for="${name}"]`) as HTMLOutputElement).value = text;
    }
  }

  field<E extends HTMLInputElement | HTMLSelectElement = HTMLInputElement>(name: string): E {
    return this.root.querySelector(`[name="${name}"]`) as E;
  }
}

/** The half that is not kept, almost white. */
function faded(pixels: Float32Array, half: Half): Float32Array {
  const channels = Number.isInteger(Math.sqrt(pixels.length)) ? 1 : 3;
  const side = Math.sqrt(pixels.length / channels);
  const kept = halfMask(half, side);
  return pixels.map((v, i) => (kept[i % kept.length] ? v : 1 - (1 - v) * 0.15));
}

