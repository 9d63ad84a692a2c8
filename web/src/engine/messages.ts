/** What the page and its drawing worker say to each other. */

export interface Request {
  prompt: string;
  steps: number;
  sampler: string;
  guidance: number;
  seed: number;
  picture: number;
}

export type ToWorker =
  | { kind: 'load'; base: string }
  | { kind: 'draw'; id: number; request: Request }
  | { kind: 'stop' };

export type FromWorker =
  | { kind: 'progress'; loaded: number; total: number }
  | { kind: 'ready'; engine: string; card: Card }
  | { kind: 'step'; id: number; step: Step }
  | { kind: 'picture'; id: number; pixels: Float32Array; seconds: number }
  | { kind: 'error'; id: number | null; message: string };

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
  files: Record<string, { bytes: number; sha256: string }>;
}
