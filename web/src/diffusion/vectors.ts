/** A picture as one row of numbers: float32 for pictures, float64 where a test wants closed forms. */
export type Picture = Float32Array | Float64Array;

/** The sum of weight * picture, in the kind of the first. */
export function mix(...parts: readonly (readonly [number, Picture])[]): Picture {
  const first = parts[0][1];
  const out = first instanceof Float64Array ? new Float64Array(first.length) : new Float32Array(first.length);
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    for (const [weight, picture] of parts) sum += weight * picture[i];
    out[i] = sum;
  }
  return out;
}
