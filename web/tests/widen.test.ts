import { PbfReader, PbfWriter } from 'pbf';
import { describe, expect, it } from 'vitest';
import { product, widen } from '../src/engine/widen';

const bytes = (write: (to: PbfWriter) => void): Uint8Array => {
  const to = new PbfWriter();
  write(to);
  return to.finish();
};
const node = (kind: string, inputs: string[], outputs: string[]) =>
  bytes((to) => {
    for (const name of inputs) to.writeStringField(1, name);
    for (const name of outputs) to.writeStringField(2, name);
    to.writeStringField(4, kind);
  });
const tensor = (name: string, type: number, dims: number[], raw: ArrayBufferView) =>
  bytes((to) => {
    to.writePackedVarint(1, dims);
    to.writeVarintField(2, type);
    to.writeStringField(8, name);
    to.writeBytesField(9, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength));
  });
const model = (nodes: Uint8Array[], tensors: Uint8Array[]) =>
  bytes((to) => {
    to.writeVarintField(1, 9); // ir_version
    to.writeBytesField(
      7,
      bytes((graph) => {
        for (const one of nodes) graph.writeBytesField(1, one);
        graph.writeStringField(2, 'graph');
        for (const one of tensors) graph.writeBytesField(5, one);
        graph.writeBytesField(11, new Uint8Array([10, 1, 120])); // an input
      }),
    );
    to.writeStringField(2, 'producer');
  });

interface Read {
  nodes: string[];
  tensors: Record<string, { dims: number[]; type: number; raw: Uint8Array }>;
  other: number[];
}
const read = (data: Uint8Array): Read =>
  new PbfReader(data).readFields<Read>(
    (tag, into, from) => {
      into.other.push(tag);
      if (tag !== 7) return;
      from.readMessage((inner) => {
        into.other.push(100 + inner);
        if (inner === 1) {
          const found = from.readMessage<string[]>((part, names) => part !== 3 && names.push(from.readString()), []);
          into.nodes.push(found.join(' '));
        } else if (inner === 5) {
          const one = { name: '', dims: [] as number[], type: 0, raw: new Uint8Array() };
          from.readMessage((part) => {
            if (part === 1) from.readPackedVarint(one.dims);
            if (part === 2) one.type = from.readVarint();
            if (part === 8) one.name = from.readString();
            if (part === 9) one.raw = from.readBytes().slice();
          }, null);
          const { name, ...rest } = one;
          into.tensors[name] = rest;
        }
      }, null);
    },
    { nodes: [], tensors: {}, other: [] },
  );

const q = new Int8Array([1, -2, 3, 127, -127, 0]);
const chain = [node('Cast', ['w.rows'], ['w.wide']), node('Mul', ['w.wide', 'w.scale'], ['w']), node('MatMul', ['x', 'w'], ['y'])];

describe('graphs without quantized weights', () => {
  it('multiplies by row or by column', () => {
    expect([...product(q, [2, 3], Float32Array.of(2, 10), true)]).toEqual([2, -4, 6, 1270, -1270, 0]);
    expect([...product(q, [2, 3], Float32Array.of(1, 2, 3), false)]).toEqual([1, -4, 9, 127, -254, 0]);
    expect([...product(q, [3, 1, 2], Float32Array.of(1, 2, 3), true)]).toEqual([1, -2, 6, 254, -381, 0]);
  });

  it('has the weights in place of the nodes that made them', () => {
    for (const [dims, wanted] of [
      [[2, 1], [2, -4, 6, 1270, -1270, 0]],
      [[1, 3], [2, -20, 9, 254, -1270, 0]],
    ]) {
      const scale = Float32Array.of(2, 10, 3).slice(0, Math.max(...dims));
      const other = tensor('b', 1, [1], Float32Array.of(7));
      const found = read(widen(model(chain, [tensor('w.rows', 3, [2, 3], q), other, tensor('w.scale', 1, dims, scale)])));
      expect(found.nodes).toEqual(['x w y MatMul']);
      expect(Object.keys(found.tensors)).toEqual(['b', 'w']);
      expect(found.tensors.w).toMatchObject({ dims: [2, 3], type: 1 });
      expect([...new Float32Array(found.tensors.w.raw.buffer)]).toEqual(wanted);
      expect(found.other).toEqual([1, 7, 101, 102, 105, 111, 105, 2]);
    }
  });

  it('leaves all else as it is: rows that are gathered, casts of other kinds, weights with two readers', () => {
    const gathered = [node('Gather', ['w.rows', 'ids'], ['found']), node('Cast', ['found'], ['wide']), node('Mul', ['wide', 'steps'], ['w'])];
    const all = [tensor('w.rows', 3, [2, 3], q), tensor('w.scale', 1, [2, 1], Float32Array.of(2, 10))];
    for (const same of [
      model(gathered, all),
      model([...chain, node('Neg', ['w.rows'], ['z'])], all),
      model([...chain, node('Neg', ['w.scale'], ['z'])], all),
      model(chain, [tensor('w.rows', 7, [2, 3], new BigInt64Array(6)), all[1]]),
      model([], []),
      new Uint8Array(),
    ]) {
      expect(widen(same)).toBe(same);
    }
  });
});
