/** Each operator in the real runtime against its formula written out: values, and the shape that its value claims. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Graph, Value } from '../../../gpu-worker/graph/ir.ts';
import * as ops from '../../../gpu-worker/graph/ops.ts';
import type { DType } from '../../../gpu-worker/tensor/dtype.ts';
import { noise } from '../engine/support.ts';
import { type Data, f32, runModel } from '../runtime/support.ts';

const BATCH = 2;
const SEQUENCE = 3;
const SIZES: Record<string, number> = { batch: BATCH, sequence: SEQUENCE };

/** Builds values from named inputs, runs them, and checks what comes against `expected`. */
function check(
  inputs: Record<string, Data & { as?: (number | string)[] }>,
  build: (g: Graph, x: Record<string, Value>) => Record<string, Value>,
  expected: Record<string, { dtype?: DType; dims: number[]; values: ArrayLike<number> }>,
  tolerance = 1e-5,
): void {
  const claimed: Record<string, Value> = {};
  const results = runModel(
    (g) => {
      const values = Object.fromEntries(
        Object.entries(inputs).map(([name, { dtype, dims, as }]) => [name, g.input(name, dtype, as ?? dims)]),
      );
      for (const [name, value] of Object.entries(build(g, values))) {
        claimed[name] = value;
        g.node('Identity', [value], [g.output({ ...value, name: `out.${name}` })]);
      }
    },
    inputs,
    Object.fromEntries(Object.entries(expected).map(([name, { dtype = 'f32', dims }]) => [`out.${name}`, { dtype, dims }])),
  );
  for (const [name, { dims, values, dtype = 'f32' }] of Object.entries(expected)) {
    assert.deepEqual([claimed[name]!.dtype, claimed[name]!.dims.map((d) => (typeof d === 'string' ? SIZES[d]! : d))], [dtype, dims], name);
    for (let i = 0; i < values.length; i++) {
      const got = Number(results[`out.${name}`]![i]);
      assert.ok(Math.abs(got - values[i]!) <= tolerance * Math.max(1, Math.abs(values[i]!)), `${name}[${i}]: ${got}, not ${values[i]}`);
    }
  }
}

const WIDTH = 8;
const ROWS = BATCH * SEQUENCE;
const activation = (seed: number, width = WIDTH) => ({
  ...f32([BATCH, SEQUENCE, width], noise(ROWS * width, seed)),
  as: ['batch', 'sequence', width],
});
const x = activation(1);
const y = activation(2);
const X = x.data as Float32Array;
const Y = y.data as Float32Array;
const map = (f: (value: number, i: number) => number): Float64Array => Float64Array.from(X, f);
const full = [BATCH, SEQUENCE, WIDTH];

test('add, mul, div: same shape, by row, and by a scalar', () => {
  const perRow = {
    ...f32(
      [BATCH, SEQUENCE, 1],
      noise(ROWS, 3).map((v) => v + 2),
    ),
    as: ['batch', 'sequence', 1],
  };
  const R = perRow.data as Float32Array;
  check(
    { x, y, perRow },
    (g, v) => ({
      sum: ops.add(g, v['x']!, v['y']!),
      product: ops.mul(g, v['x']!, v['perRow']!),
      reversed: ops.mul(g, v['perRow']!, v['x']!),
      quotient: ops.div(g, v['x']!, g.scalar('f32', 4)),
    }),
    {
      sum: { dims: full, values: map((a, i) => a + Y[i]!) },
      product: { dims: full, values: map((a, i) => a * R[Math.floor(i / WIDTH)]!) },
      reversed: { dims: full, values: map((a, i) => a * R[Math.floor(i / WIDTH)]!) },
      quotient: { dims: full, values: map((a) => a / 4) },
    },
  );
});

test('matmul: one matrix for all, and one for each of the batch', () => {
  const W = noise(WIDTH * 5, 4);
  const each = { ...f32([BATCH, WIDTH, 5], noise(BATCH * WIDTH * 5, 5)), as: ['batch', WIDTH, 5] };
  const product = (weight: (b: number, k: number, j: number) => number) =>
    Float64Array.from({ length: ROWS * 5 }, (_, i) => {
      const row = Math.floor(i / 5);
      let sum = 0;
      for (let k = 0; k < WIDTH; k++) sum += X[row * WIDTH + k]! * weight(Math.floor(row / SEQUENCE), k, i % 5);
      return sum;
    });
  check(
    { x, each },
    (g, v) => ({
      shared: ops.matmul(
        g,
        v['x']!,
        g.weight('w', 'f32', [WIDTH, 5], () => W),
      ),
      own: ops.matmul(g, v['x']!, v['each']!),
    }),
    {
      shared: { dims: [BATCH, SEQUENCE, 5], values: product((_, k, j) => W[k * 5 + j]!) },
      own: { dims: [BATCH, SEQUENCE, 5], values: product((b, k, j) => (each.data as Float32Array)[(b * WIDTH + k) * 5 + j]!) },
    },
  );
});

test('rows of a table by index; another shape', () => {
  const table = noise(4 * WIDTH, 6);
  const ids: Data & { as: string[] } = {
    dtype: 'i64',
    dims: [BATCH, SEQUENCE],
    data: BigInt64Array.of(3n, 0n, 1n, 1n, 2n, 3n),
    as: ['batch', 'sequence'],
  };
  check(
    { x, ids },
    (g, v) => ({
      rows: ops.gatherRows(
        g,
        g.weight('table', 'f32', [4, WIDTH], () => table),
        v['ids']!,
      ),
      flat: ops.reshape(g, v['x']!, [-1, WIDTH], [ROWS, WIDTH]),
    }),
    {
      rows: { dims: full, values: [3, 0, 1, 1, 2, 3].flatMap((id) => [...table.slice(id * WIDTH, (id + 1) * WIDTH)]) },
      flat: { dims: [ROWS, WIDTH], values: X },
    },
  );
});

test('RMS norm', () => {
  const gain = noise(WIDTH, 7);
  const epsilon = 1e-5;
  const norm = (values: ArrayLike<number>, i: number) => {
    let squares = 0;
    const start = i - (i % WIDTH);
    for (let k = 0; k < WIDTH; k++) squares += values[start + k]! ** 2;
    return (gain[i % WIDTH]! * values[i]!) / Math.sqrt(squares / WIDTH + epsilon);
  };
  check(
    { x },
    (g, v) => ({
      norm: ops.rmsNorm(
        g,
        v['x']!,
        g.weight('gain', 'f32', [WIDTH], () => gain),
        epsilon,
      ),
    }),
    { norm: { dims: full, values: map((_, i) => norm(X, i)) } },
  );
});

test('the exact product of 8-bit levels', () => {
  const scale = 1 / 127;
  const levels = Uint8Array.from(map((a) => Math.round(a / scale) + 128));
  const W = Int8Array.from(noise(WIDTH * 4, 8), (v) => Math.round(v * 127));
  const columns = noise(4, 9).map(Math.abs);
  const product = Float64Array.from({ length: ROWS * 4 }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < WIDTH; k++) sum += (levels[Math.floor(i / 4) * WIDTH + k]! - 128) * W[k * 4 + (i % 4)]!;
    return sum * scale * columns[i % 4]!;
  });
  check(
    { x: { dtype: 'u8', dims: x.dims, data: levels, as: x.as } },
    (g, v) => {
      const weight = g.weight('w', 'i8', [WIDTH, 4], () => W);
      const columnScale = g.weight('s', 'f32', [4], () => columns);
      const zeros = g.weight('z', 'i8', [4], () => new Int8Array(4));
      return { product: ops.matmulInteger(g, v['x']!, g.scalar('f32', scale), g.scalar('u8', 128), weight, columnScale, zeros, 'p') };
    },
    { product: { dims: [BATCH, SEQUENCE, 4], values: product } },
  );
});
