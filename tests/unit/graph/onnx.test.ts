/** A graph written as ONNX, read back field by field under the numbers of onnx.proto3. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Graph } from '../../../gpu-worker/graph/ir.ts';
import { toOnnx } from '../../../gpu-worker/graph/onnx.ts';
import { Message } from './protobuf-reader.ts';

const FLOAT = 1;
const INT64 = 7;

function example(): Graph {
  const g = new Graph();
  const x = g.input('x', 'f32', ['batch', 3]);
  const w = g.weight('layers.0.w', 'f32', [3, 4], () => new Float32Array(12));
  const y = { name: 'y', dtype: 'f32' as const, dims: ['batch', 4] };
  const left = g.ints([0, -1]);
  g.node('MatMul', [x, null, w], [y, null], { alpha: { float: 0.5 }, mode: { string: 'fast' }, axes: { ints: [0, -1] }, n: { int: -3 } });
  g.node('QuickGelu', [y, left], [g.output({ name: 'z', dtype: 'f32', dims: ['batch', 4] })], {}, 'com.microsoft');
  return g;
}

const locations = new Map([['layers.0.w', { offset: 4096, length: 48 }]]);
const read = () => new Message(toOnnx(example(), { file: 'weights.bin', locations }));

test('the model: its IR version, its operator sets, one graph', () => {
  const model = read();
  assert.equal(model.int(1), 10);
  assert.deepEqual(
    model.messages(8).map((set) => [set.string(1), set.int(2)]),
    [
      ['', 21],
      ['com.microsoft', 1],
      ['switchyard', 1],
    ],
  );
  assert.equal(model.all(7).length, 1);
});

test('nodes in order, optional inputs left empty, attributes with their types', () => {
  const [matmul, gelu] = read().messages(7)[0]!.messages(1);
  assert.deepEqual(matmul!.strings(1), ['x', '', 'layers.0.w']);
  assert.deepEqual(matmul!.strings(2), ['y', '']);
  assert.deepEqual([matmul!.string(3), matmul!.string(4), matmul!.all(7)], ['y', 'MatMul', []]);
  const [alpha, mode, axes, n] = matmul!.messages(5);
  assert.deepEqual([alpha!.string(1), alpha!.float(2), alpha!.int(20)], ['alpha', 0.5, 1]);
  assert.deepEqual([mode!.string(1), mode!.string(4), mode!.int(20)], ['mode', 'fast', 3]);
  assert.deepEqual([axes!.string(1), axes!.ints(8), axes!.int(20)], ['axes', [0, -1], 7]);
  assert.deepEqual([n!.string(1), n!.int(3), n!.int(20)], ['n', -3, 2]);
  assert.equal(gelu!.string(7), 'com.microsoft');
});

test('inputs and outputs with fixed and named sizes', () => {
  const graph = read().messages(7)[0]!;
  for (const [field, name, fixed] of [
    [11, 'x', 3],
    [12, 'z', 4],
  ] as const) {
    const [info, ...more] = graph.messages(field);
    assert.equal(more.length, 0);
    assert.equal(info!.string(1), name);
    const tensor = info!.messages(2)[0]!.messages(1)[0]!;
    assert.equal(tensor.int(1), FLOAT);
    const [batch, width] = tensor.messages(2)[0]!.messages(1);
    assert.deepEqual([batch!.string(2), batch!.all(1)], ['batch', []]);
    assert.deepEqual([width!.int(1), width!.all(2)], [fixed, []]);
  }
});

test('constants lie inside, weights outside by place and length', () => {
  const [constant, weight] = read().messages(7)[0]!.messages(5);
  assert.deepEqual([constant!.ints(1), constant!.int(2)], [[2], INT64]);
  assert.deepEqual([...new BigInt64Array(constant!.bytes(9).slice().buffer)], [0n, -1n]);
  assert.deepEqual([weight!.ints(1), weight!.int(2), weight!.string(8), weight!.int(14)], [[3, 4], FLOAT, 'layers.0.w', 1]);
  assert.deepEqual(weight!.all(9), []);
  assert.deepEqual(Object.fromEntries(weight!.messages(13).map((entry) => [entry.string(1), entry.string(2)])), {
    location: 'weights.bin',
    offset: '4096',
    length: '48',
  });
});

test('a weight that the file lacks, or holds in another size, is an error that names it', () => {
  assert.throws(() => toOnnx(example(), { file: 'w', locations: new Map() }), /layers\.0\.w: expected 48 bytes, got none/);
  const short = new Map([['layers.0.w', { offset: 0, length: 44 }]]);
  assert.throws(() => toOnnx(example(), { file: 'w', locations: short }), /layers\.0\.w: expected 48 bytes, got 44/);
});
