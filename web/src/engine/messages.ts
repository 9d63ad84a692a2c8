/** What the page and its drawing worker say to each other. */

import type { StageCard } from './stage';

export interface Request {
  prompt: string;
  steps: number;
  sampler: string;
  guidance: number;
  seed: number;
  picture: number;
  /** Column -> value, of those that the card lists. */
  properties?: Record<string, string | number>;
  /** A second prompt, and the share of the way to it, from 0 to 1. */
  to?: string;
  share?: number;
  /** A picture [C, S, S] in [-1, 1] to start from: half of it is kept, or a variation of it is drawn at a strength. */
  init?: { pixels: Float32Array; keep: Half | null; strength: number };
  /** Send no steps, only the picture. */
  quiet?: boolean;
  /** By the quick model beside the whole one. */
  quick?: boolean;
}

export type Half = 'left' | 'right' | 'top' | 'bottom';

/** What the text encoder reads: "狗" is read as "dog". */
export interface Reading {
  text: string;
  unknown: string[];
  note: string | null;
}

/** What is to be seen in a picture, and the real characters nearest to it. */
export interface Explanation {
  radical: { character: string; meaning: string; probability: number };
  parts: { character: string; meaning: string; probability: number }[];
  structure: { name: string; probability: number };
  nearest: { character: string; definition: string; distance: number; copy: boolean; row?: number }[];
  /** Names the order of all characters, whose rows `nearest` gives. */
  order?: string;
}

export type ToWorker =
  | { kind: 'warm' }
  | { kind: 'load'; base: string; id: number; prompt: string }
  | { kind: 'draw'; id: number; request: Request }
  | { kind: 'read'; id: number; prompt: string }
  | { kind: 'explain'; id: number; pixels: Float32Array }
  | { kind: 'enlarge'; id: number; pixels: Float32Array; request: Request }
  | { kind: 'stop' };

export type FromWorker =
  | { kind: 'progress'; loaded: number; total: number }
  /** The quick model is there. */
  | { kind: 'quick' }
  | { kind: 'ready'; id: number; engine: string; threads: number; card: Card }
  | { kind: 'read'; id: number; reading: Reading }
  | { kind: 'explained'; id: number; explanation: Explanation }
  | { kind: 'step'; id: number; step: Step }
  | { kind: 'picture'; id: number; pixels: Float32Array; seconds: number }
  | { kind: 'error'; id: number; message: string };

/** One look at a drawing as it forms: the noisy picture, the guess at the clean one, and the guess at the noise. */
export interface Step {
  t: number;
  x: Float32Array;
  x0: Float32Array;
  eps: Float32Array;
}

export interface PropertyCard {
  column: string;
  kind: 'class' | 'number';
  values: string[];
}

/** How a model was distilled: `DistilledConfig` in core/recipe.py. */
export interface Distilled {
  steps: number;
  /** Of the undistilled model, which this one has learned. */
  guidance: number;
  /** The undistilled model. */
  model: string;
  sampler?: string;
}

/** model.json of an exported model. */
export interface Card {
  name: string;
  size: number;
  channels: number;
  shape: [number, number, number];
  bounds: [number, number] | null;
  schedule: string;
  text: { max_tokens: number; width: number };
  properties: PropertyCard[];
  /** Super-resolution stages that belong to the model, smallest first. */
  stages?: StageCard[];
  files: Record<string, { bytes: number; sha256: string }>;
  /** Where the model is a student. */
  distilled?: Distilled;
  /** A student of the model, whose denoiser is another file; it shares all others. */
  quick?: { name: string; file: string; distilled: Distilled };
  /** Prompts that are drawn without a text encoder, and how many tokens each has. */
  examples?: string[];
  example_lengths?: number[];
}
