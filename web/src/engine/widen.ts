/** Graphs of quantized weights, dequantized before ONNX Runtime reads them: its own folding of constants takes longer than the rest of loading. */

import { PbfReader, PbfWriter } from 'pbf';

// numbers of fields, from onnx.proto
const MODEL = { graph: 7 };
const GRAPH = { node: 1, initializer: 5 };
const NODE = { input: 1, output: 2, kind: 4 };
const TENSOR = { dims: 1, type: 2, name: 8, raw: 9 };
const [FLOAT, INT8] = [1, 3];
const BYTES = 2; // the wire type of texts, bytes and messages

interface Field {
  tag: number;
  /** With its tag and, for bytes, its length. */
  whole: Uint8Array;
  /** Bytes without them. */
  value: Uint8Array;
}
interface Node {
  kind: string;
  inputs: string[];
  outputs: string[];
}
interface Tensor {
  field: Field;
  dims: number[];
  type: number;
  name: string;
  raw: Uint8Array;
}

function fields(message: Uint8Array): Field[] {
  const reader = new PbfReader(message);
  const found: Field[] = [];
  while (reader.pos < message.length) {
    const from = reader.pos;
    const key = reader.readVarint();
    let value = message.subarray(reader.pos, reader.pos);
    if ((key & 7) === BYTES) value = reader.readBytes();
    else reader.skip(key);
    found.push({ tag: key >> 3, whole: message.subarray(from, reader.pos), value });
  }
  return found;
}

const node = (message: Uint8Array): Node =>
  new PbfReader(message).readFields<Node>(
    (tag, into, reader) => {
      if (tag === NODE.input) into.inputs.push(reader.readString());
      else if (tag === NODE.output) into.outputs.push(reader.readString());
      else if (tag === NODE.kind) into.kind = reader.readString();
    },
    { kind: '', inputs: [], outputs: [] },
  );

const tensor = (field: Field): Tensor =>
  new PbfReader(field.value).readFields<Tensor>(
    (tag, into, reader) => {
      if (tag === TENSOR.dims) reader.readPackedVarint(into.dims);
      else if (tag === TENSOR.type) into.type = reader.readVarint();
      else if (tag === TENSOR.name) into.name = reader.readString();
      else if (tag === TENSOR.raw) into.raw = reader.readBytes();
    },
    { field, dims: [], type: 0, name: '', raw: new Uint8Array() },
  );

/** W = scale * q, for `q` [O, ...] and a scale per row [O, 1, ...], or both transposed: `q` [I, O], `scale` [1, O]. */
export function product(q: Int8Array, dims: readonly number[], scale: Float32Array, byRow: boolean): Float32Array<ArrayBuffer> {
  const made = new Float32Array(q.length);
  const inner = byRow ? q.length / scale.length : dims[dims.length - 1];
  for (let row = 0, i = 0; i < q.length; row++) {
    for (let column = 0; column < inner; column++, i++) made[i] = q[i] * scale[byRow ? row : column];
  }
  return made;
}

function widened(q: Tensor, scale: Tensor, name: string): Uint8Array[] {
  const steps = new Float32Array(scale.raw.slice().buffer);
  const integers = new Int8Array(q.raw.buffer, q.raw.byteOffset, q.raw.length);
  const data = product(integers, q.dims, steps, scale.dims[0] === steps.length && q.dims[0] === steps.length);
  const head = new PbfWriter();
  head.writePackedVarint(TENSOR.dims, q.dims);
  head.writeVarintField(TENSOR.type, FLOAT);
  head.writeStringField(TENSOR.name, name);
  head.writeTag(TENSOR.raw, BYTES);
  head.writeVarint(data.byteLength);
  return [head.finish(), new Uint8Array(data.buffer)];
}

/** A message's parts with its tag and length before them. */
function enclosed(tag: number, parts: readonly Uint8Array[]): Uint8Array[] {
  const head = new PbfWriter();
  head.writeTag(tag, BYTES);
  head.writeVarint(parts.reduce((sum, part) => sum + part.length, 0));
  return [head.finish(), ...parts];
}

/** The same model with float32 weights where it had `Mul(Cast(q), scale)`; other models are returned as they are. */
export function widen(model: Uint8Array): Uint8Array {
  const whole = fields(model);
  const graph = fields(whole.find(({ tag }) => tag === MODEL.graph)?.value ?? new Uint8Array());
  const tensors = new Map(graph.filter(({ tag }) => tag === GRAPH.initializer).map(tensor).map((one) => [one.name, one]));
  const nodes = new Map(graph.filter(({ tag }) => tag === GRAPH.node).map((field) => [field, node(field.value)]));
  const uses = new Map<string, number>();
  for (const { inputs } of nodes.values()) for (const name of inputs) uses.set(name, (uses.get(name) ?? 0) + 1);
  const casts = new Map<string, [Field, Tensor]>(); // by what they make
  const dropped = new Set<Field>();
  const made: Uint8Array[][] = [];
  for (const [field, { kind, inputs, outputs }] of nodes) {
    const q = tensors.get(inputs[0]);
    if (kind === 'Cast' && q?.type === INT8 && uses.get(q.name) === 1 && uses.get(outputs[0]) === 1) casts.set(outputs[0], [field, q]);
    const cast = casts.get(inputs[0]);
    const scale = tensors.get(inputs[1]);
    if (kind !== 'Mul' || !cast || scale?.type !== FLOAT || uses.get(scale.name) !== 1) continue;
    made.push(enclosed(GRAPH.initializer, widened(cast[1], scale, outputs[0])));
    for (const one of [field, cast[0], cast[1].field, scale.field]) dropped.add(one);
  }
  if (!made.length) return model;
  const inside = [...graph.filter((field) => !dropped.has(field)).map(({ whole: bytes }) => bytes), ...made.flat()];
  const parts = whole.flatMap((field) => (field.tag === MODEL.graph ? enclosed(MODEL.graph, inside) : [field.whole]));
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
