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
const rowOf = (i: number): Float32Array => X.subarray(Math.floor(i / WIDTH) * WIDTH, (Math.floor(i / WIDTH) + 1) * WIDTH);

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

test('abs, silu, row maximum', () => {
  const max = Array.from({ length: ROWS }, (_, r) => Math.max(...rowOf(r * WIDTH)));
  check({ x }, (g, v) => ({ abs: ops.abs(g, v['x']!), silu: ops.silu(g, v['x']!), max: ops.rowMax(g, v['x']!) }), {
    abs: { dims: full, values: map(Math.abs) },
    silu: { dims: full, values: map((a) => a / (1 + Math.exp(-a))) },
    max: { dims: [BATCH, SEQUENCE, 1], values: max },
  });
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

test('RMS norms, with the sum that goes on', () => {
  const gain = noise(WIDTH, 7);
  const epsilon = 1e-5;
  const norm = (values: ArrayLike<number>, i: number) => {
    let squares = 0;
    const start = i - (i % WIDTH);
    for (let k = 0; k < WIDTH; k++) squares += values[start + k]! ** 2;
    return (gain[i % WIDTH]! * values[i]!) / Math.sqrt(squares / WIDTH + epsilon);
  };
  const sum = map((a, i) => a + Y[i]!);
  check(
    { x, y },
    (g, v) => {
      const weight = g.weight('gain', 'f32', [WIDTH], () => gain);
      const added = ops.addRmsNorm(g, v['x']!, v['y']!, weight, epsilon);
      return { alone: ops.rmsNorm(g, v['x']!, weight, epsilon), norm: added.norm, sum: added.sum };
    },
    {
      alone: { dims: full, values: map((_, i) => norm(X, i)) },
      norm: { dims: full, values: sum.map((_, i) => norm(sum, i)) },
      sum: { dims: full, values: sum },
    },
  );
});

test('levels of 8 bits, and their exact product', () => {
  const scale = 1 / 127;
  const levels = map((a) => Math.min(255, Math.max(0, Math.round(a / scale) + 128)));
  const W = Int8Array.from(noise(WIDTH * 4, 8), (v) => Math.round(v * 127));
  const columns = noise(4, 9).map(Math.abs);
  const product = Float64Array.from({ length: ROWS * 4 }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < WIDTH; k++) sum += (levels[Math.floor(i / 4) * WIDTH + k]! - 128) * W[k * 4 + (i % 4)]!;
    return sum * scale * columns[i % 4]!;
  });
  check(
    { x },
    (g, v) => {
      const zero = g.scalar('u8', 128);
      const unit = g.scalar('f32', scale);
      const quantized = ops.quantize(g, v['x']!, unit, zero);
      const weight = g.weight('w', 'i8', [WIDTH, 4], () => W);
      const columnScale = g.weight('s', 'f32', [4], () => columns);
      const zeros = g.weight('z', 'i8', [4], () => new Int8Array(4));
      return { quantized, product: ops.matmulInteger(g, quantized, unit, zero, weight, columnScale, zeros, 'p') };
    },
    {
      quantized: { dtype: 'u8', dims: full, values: levels },
      product: { dims: [BATCH, SEQUENCE, 4], values: product },
    },
    1e-4,
  );
});

/** The operator takes several tokens of one sequence, or one token of several. */
for (const { past, sequence } of [
  { past: [2], sequence: 3 },
  { past: [0], sequence: 5 },
  { past: [2, 6, 0], sequence: 1 },
])
  test(`attention over a cache, from positions ${past}, ${sequence} tokens each: causal, grouped, rotated`, () => {
    const batch = past.length;
    const rows = (seed: number, width: number) => ({
      ...f32([batch, sequence, width], noise(batch * sequence * width, seed)),
      as: [batch, sequence, width],
    });
    const heads = 4;
    const kvHeads = 2;
    // The operator wants a multiple of 16.
    const d = 16;
    const capacity = 8;
    const scale = d ** -0.5;
    const angles = (position: number, i: number) => position / 100 ** ((2 * i) / d);
    const rotate = (v: Float64Array, position: number) =>
      Float64Array.from({ length: d }, (_, i) => {
        const half = d / 2;
        const angle = angles(position, i % half);
        return i < half
          ? v[i]! * Math.cos(angle) - v[i + half]! * Math.sin(angle)
          : v[i]! * Math.cos(angle) + v[i - half]! * Math.sin(angle);
      });
    const q = rows(10, heads * d);
    const k = rows(11, kvHeads * d);
    const v = rows(12, kvHeads * d);
    const keys = noise(batch * kvHeads * capacity * d, 13);
    const values = noise(batch * kvHeads * capacity * d, 14);
    const vector = (data: ArrayLike<number>, at: number) => Float64Array.from({ length: d }, (_, i) => data[at + i]!);

    const expected = new Float64Array(batch * sequence * heads * d);
    for (let b = 0; b < batch; b++) {
      for (let s = 0; s < sequence; s++) {
        for (let h = 0; h < heads; h++) {
          const group = Math.floor(h / (heads / kvHeads));
          const position = past[b]! + s;
          const query = rotate(vector(q.data as Float32Array, ((b * sequence + s) * heads + h) * d), position);
          const keyAt = (p: number) =>
            p < past[b]!
              ? vector(keys, ((b * kvHeads + group) * capacity + p) * d)
              : rotate(vector(k.data as Float32Array, ((b * sequence + p - past[b]!) * kvHeads + group) * d), p);
          const valueAt = (p: number) =>
            p < past[b]!
              ? vector(values, ((b * kvHeads + group) * capacity + p) * d)
              : vector(v.data as Float32Array, ((b * sequence + p - past[b]!) * kvHeads + group) * d);
          const weights = Array.from({ length: position + 1 }, (_, p) =>
            Math.exp(scale * keyAt(p).reduce((sum, x, i) => sum + x * query[i]!, 0)),
          );
          const total = weights.reduce((a, b) => a + b, 0);
          for (const [p, weight] of weights.entries())
            valueAt(p).forEach((x, i) => {
              expected[((b * sequence + s) * heads + h) * d + i]! += (weight / total) * x;
            });
        }
      }
    }

    const cacheDims = [batch, kvHeads, capacity, d];
    const cache = (data: Float32Array) => ({ ...f32(cacheDims, data), as: [batch, kvHeads, capacity, d] });
    const half = [capacity, d / 2];
    const table = (fn: (x: number) => number) =>
      Float32Array.from({ length: capacity * (d / 2) }, (_, i) => fn(angles(Math.floor(i / (d / 2)), i % (d / 2))));
    check(
      {
        q,
        k,
        v,
        keys: cache(keys),
        values: cache(values),
        lastIndex: { dtype: 'i32', dims: [batch], data: Int32Array.from(past, (p) => p + sequence - 1) },
        total: { dtype: 'i32', dims: [], data: Int32Array.of(Math.max(...past) + sequence) },
      },
      (g, value) => {
        const position = {
          lastIndex: value['lastIndex']!,
          total: value['total']!,
          cos: g.weight('cos', 'f32', half, () => table(Math.cos)),
          sin: g.weight('sin', 'f32', half, () => table(Math.sin)),
        };
        const attended = ops.cachedAttention(
          g,
          [ops.concatLast(g, [value['q']!, value['k']!, value['v']!])],
          { key: value['keys']!, value: value['values']! },
          position,
          { key: 'presentKey', value: 'presentValue' },
          { heads, kvHeads, headDim: d, scale, window: 0, softcap: 0 },
        );
        return { out: attended.out };
      },
      { out: { dims: [batch, sequence, heads * d], values: expected } },
      1e-4,
    );
  });
