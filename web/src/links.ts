/** Settings as links: everything that a drawing depends on, so that the link alone brings it back. */

import { SAMPLERS } from './diffusion/samplers';
import type { Half, Request } from './engine/messages';

/** A request whose picture to start from is described rather than given. */
export interface Wanted extends Omit<Request, 'init' | 'quiet' | 'quick'> {
  kept?: { half: Half; of: Wanted };
}

export const START: Wanted = { prompt: 'gold', steps: 20, sampler: 'dpmpp-2m', guidance: 5, seed: 7, picture: 0 };
export const LIMITS = { steps: [1, 120], guidance: [0, 15], seed: [0, 2 ** 32 - 1], share: [0, 1] } as const;
export const HALVES: readonly Half[] = ['left', 'right', 'top', 'bottom'];
const LONGEST = 300; // characters of a prompt
export const DEEPEST = 4; // of drawings that keep a half of another
const PROPERTY = 'is-'; // before the column's name

/** The settings that a link carries, or null where it carries none. */
export function fromLink(hash: string, depth = 0): Wanted | null {
  const given = new URLSearchParams(hash.replace(/^#/, ''));
  if (!given.has('prompt')) return null;
  const number = (name: keyof typeof LIMITS, otherwise: number) => {
    const [low, high] = LIMITS[name];
    const text = given.get(name);
    const value = text?.trim() ? Number(text) : otherwise;
    return Number.isFinite(value) ? Math.min(Math.max(value, low), high) : otherwise;
  };
  const sampler = given.get('sampler') ?? '';
  const wanted: Wanted = {
    prompt: (given.get('prompt') ?? '').slice(0, LONGEST),
    steps: Math.round(number('steps', START.steps)),
    sampler: Object.hasOwn(SAMPLERS, sampler) ? sampler : START.sampler,
    guidance: number('guidance', START.guidance),
    seed: Math.round(number('seed', START.seed)),
    picture: 0,
  };
  const properties = [...given].filter(([name, value]) => name.startsWith(PROPERTY) && value);
  if (properties.length) wanted.properties = Object.fromEntries(properties.map(([name, value]) => [name.slice(PROPERTY.length), value]));
  const to = (given.get('to') ?? '').slice(0, LONGEST);
  if (to.trim()) Object.assign(wanted, { to, share: number('share', 0.5) });
  const half = HALVES.find((name) => name === given.get('keep'));
  const of = half && depth < DEEPEST ? fromLink(given.get('of') ?? '', depth + 1) : null;
  if (half && of) wanted.kept = { half, of };
  return wanted;
}

export function toLink(wanted: Wanted): string {
  const { prompt, steps, sampler, guidance, seed, properties, to, share, kept } = wanted;
  const values: Record<string, string> = { prompt, steps: `${steps}`, sampler, guidance: `${guidance}`, seed: `${seed}` };
  for (const [name, value] of Object.entries(properties ?? {})) values[`${PROPERTY}${name}`] = `${value}`;
  if (to?.trim()) Object.assign(values, { to, share: `${share ?? 0.5}` });
  if (kept) Object.assign(values, { keep: kept.half, of: toLink(kept.of).slice(1) });
  return `#${new URLSearchParams(values)}`;
}

/** The same drawing from another seed. */
export function withSeed(wanted: Wanted, seed: number): Wanted {
  return { ...wanted, seed };
}

/** How many drawings back the first kept half lies. */
export function depth(wanted: Wanted): number {
  return wanted.kept ? 1 + depth(wanted.kept.of) : 0;
}
