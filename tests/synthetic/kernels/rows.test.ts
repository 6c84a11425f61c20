/** Norms, gated units and 8-bit rows: against their formulas in float64, each token's bits depending on itself alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Graph, Value } from '../../../gpu-worker/graph/ir.ts';
import { type Activation, addNormQuantize, gatedUnits, type QuantizedRows, quantizeRows } from '../../../gpu-worker/graph/kernels.ts';
import { rotation } from '../../../gpu-worker/models/rotation.ts';
import type { DType, TypedArray } from '../../../gpu-worker/tensor/dtype.ts';
import { noise } from '../engine/support.ts';
import { f32, writeModel } from '../runtime/support.ts';
import { Runner } from './runner.ts';

const shape = fc.record({ tokens: fc.integer({ min: 1, max: 40 }), width: fc.integer({ min: 1, max: 200 }) });

type Outputs = Record<string, { dtype: DType; width: number }>;
const QUANTIZED = (width: number): Outputs => ({ q: { dtype: 'u8', width }, largest: { dtype: 'f32', width: 1 } });

/** Runs the model on all tokens at once with one and two threads and on each alone, which must agree; returns the outputs. */
function runAlike(
  build: (g: Graph) => void,
  inputs: Record<string, { width: number; data: Float32Array }>,
  fixed: Record<string, Float32Array>,
  outputs: Outputs,
): Record<string, TypedArray> {
  using model = writeModel(build);
  using one = new Runner(model, 1);
  using two = new Runner(model, 2);
  const first = Object.values(inputs)[0]!;
  const tokens = first.data.length / first.width;
  const run = (runner: Runner, from: number, to: number) => {
    const results = runner.run(
      {
        ...Object.fromEntries(
          Object.entries(inputs).map(([name, { width, data }]) => [name, f32([to - from, width], data.slice(from * width, to * width))]),
        ),
        ...Object.fromEntries(Object.entries(fixed).map(([name, data]) => [name, f32([data.length], data)])),
      },
      Object.fromEntries(Object.entries(outputs).map(([name, { dtype, width }]) => [`out.${name}`, { dtype, dims: [to - from, width] }])),
    );
    return Object.fromEntries(Object.entries(results).map(([name, data]) => [name.slice('out.'.length), data]));
  };
  const all = run(one, 0, tokens);
  assert.deepEqual(run(two, 0, tokens), all, 'threads');
  const alone = run(two, tokens - 1, tokens);
  for (const [name, { width }] of Object.entries(outputs))
    assert.deepEqual(alone[name], all[name]!.slice((tokens - 1) * width), `${name} alone`);
  return all;
}

function emit(g: Graph, values: Record<string, Value>): void {
  for (const [name, value] of Object.entries(values)) g.node('Identity', [value], [g.output({ ...value, name: `out.${name}` })]);
}

const emitQuantized = (g: Graph, q: QuantizedRows | null): void => emit(g, { q: q!.values, largest: q!.largest });

/** Levels are the formula's, or its neighbours where it lies half-way between two. */
function checkQuantized(x: Float32Array, width: number, q: TypedArray, largest: TypedArray): void {
  for (let t = 0; t * width < x.length; t++) {
    const row = x.subarray(t * width, (t + 1) * width);
    const most = row.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    assert.equal(largest[t], most, `largest of row ${t}`);
    row.forEach((v, i) => {
      const level = most > 0 ? (v / most) * 127 + 128 : 128;
      assert.ok(
        Math.abs(Number(q[t * width + i]) - level) <= 0.5 + 1e-4,
        `row ${t}, element ${i}: level ${q[t * width + i]}, not ${level}`,
      );
    });
  }
}

const near = (got: number, expected: number, tolerance: number, what: string) =>
  assert.ok(Math.abs(got - expected) <= tolerance * Math.max(1, Math.abs(expected)), `${what}: ${got}, not ${expected}`);

test('rows become 8 bits wide, each by its own largest magnitude, rounded half to even', () => {
  fc.assert(
    fc.property(shape, ({ tokens, width }) => {
      const x = noise(tokens * width, tokens).map((v, i) => v * 10 ** (Math.floor(i / width) % 7));
      const out = runAlike(
        (g) => emitQuantized(g, quantizeRows(g, g.input('x', 'f32', ['tokens', width]))),
        { x: { width, data: x } },
        {},
        QUANTIZED(width),
      );
      checkQuantized(x, width, out['q']!, out['largest']!);
    }),
    { numRuns: 20 },
  );
  const x = Float32Array.of(127, 0.5, 1.5, -2.5, 0, -127, 3.25, 1);
  const build = (g: Graph) => emitQuantized(g, quantizeRows(g, g.input('x', 'f32', ['tokens', x.length])));
  const out = runAlike(build, { x: { width: x.length, data: x } }, {}, QUANTIZED(x.length));
  assert.deepEqual([...out['q']!], [255, 128, 130, 126, 128, 1, 131, 129]);
});

test('a row of zeros has zero levels, and one that is not a number says so', () => {
  const x = Float32Array.of(0, 0, 0, 1, Number.NaN, 2);
  const out = runAlike(
    (g) => emitQuantized(g, quantizeRows(g, g.input('x', 'f32', ['tokens', 3]))),
    { x: { width: 3, data: x } },
    {},
    QUANTIZED(3),
  );
  assert.deepEqual([...out['q']!.slice(0, 3)], [128, 128, 128]);
  assert.equal(out['largest']![0], 0);
  assert.ok(Number.isNaN(out['largest']![1]));
});

test('norms add what a block left, and hand on the sum', () => {
  fc.assert(
    fc.property(shape, fc.boolean(), fc.boolean(), ({ tokens, width }, added, quantized) => {
      const [stream, delta, gain] = [noise(tokens * width, 1), noise(tokens * width, 2), noise(width, 3)];
      const epsilon = 1e-3;
      const build = (g: Graph) => {
        const x = g.input('stream', 'f32', ['tokens', width]);
        const d = added ? g.input('delta', 'f32', ['tokens', width]) : null;
        const made = addNormQuantize(g, x, d, g.input('gain', 'f32', [width]), epsilon, quantized);
        emit(g, { norm: made.norm, ...(added ? { sum: made.sum } : {}) });
        if (quantized) emitQuantized(g, made.quantized);
      };
      const inputs = { stream: { width, data: stream }, ...(added ? { delta: { width, data: delta } } : {}) };
      const row = { dtype: 'f32', width } as const;
      const out = runAlike(build, inputs, { gain }, { norm: row, ...(added ? { sum: row } : {}), ...(quantized ? QUANTIZED(width) : {}) });
      for (let t = 0; t < tokens; t++) {
        const sum = Array.from({ length: width }, (_, i) => stream[t * width + i]! + (added ? delta[t * width + i]! : 0));
        const root = Math.sqrt(sum.reduce((s, v) => s + v * v, 0) / width + epsilon);
        for (let i = 0; i < width; i++) {
          if (added) near(Number(out['sum']![t * width + i]), sum[i]!, 1e-6, `sum ${t}, ${i}`);
          near(Number(out['norm']![t * width + i]), (gain[i]! * sum[i]!) / root, 1e-5, `norm ${t}, ${i}`);
        }
      }
      if (quantized) checkQuantized(out['norm'] as Float32Array, width, out['q']!, out['largest']!);
    }),
    { numRuns: 40 },
  );
});

/** Error function by its series, and its complement's continued fraction beyond 3. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return Math.abs(x) > 5 ? Math.sign(x) : (2 / Math.sqrt(Math.PI)) * sum;
}

const ACTIVATIONS: Record<Activation, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu_pytorch_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

test('gated units: every activation, turned by the rotation that the weights after them have folded in', () => {
  const units = fc.record({
    tokens: fc.integer({ min: 1, max: 20 }),
    block: fc.constantFrom(0, 1, 2, 4, 8, 16, 32, 64),
    blocks: fc.integer({ min: 1, max: 6 }),
    activation: fc.constantFrom<Activation>('silu', 'gelu_pytorch_tanh', 'gelu'),
    quantized: fc.boolean(),
  });
  fc.assert(
    fc.property(units, ({ tokens, block, blocks, activation, quantized }) => {
      const width = Math.max(1, block) * blocks;
      const gateUp = noise(tokens * 2 * width, 5).map((v) => 6 * v);
      const turn = block > 0 ? rotation(block) : null;
      const build = (g: Graph) => {
        const signs = turn ? g.input('signs', 'f32', [block]) : null;
        const made = gatedUnits(g, g.input('gate_up', 'f32', ['tokens', 2 * width]), activation, signs, quantized);
        emit(g, { units: made.units });
        if (quantized) emitQuantized(g, made.quantized);
      };
      const inputs = { gate_up: { width: 2 * width, data: gateUp } };
      const out = runAlike(build, inputs, turn ? { signs: turn.signs! } : {}, {
        units: { dtype: 'f32', width },
        ...(quantized ? QUANTIZED(width) : {}),
      });
      const expected = new Float32Array(tokens * width);
      for (let t = 0; t < tokens; t++)
        for (let i = 0; i < width; i++)
          expected[t * width + i] = ACTIVATIONS[activation](gateUp[2 * t * width + i]!) * gateUp[(2 * t + 1) * width + i]!;
      turn?.apply(expected);
      for (const [i, v] of expected.entries()) near(Number(out['units']![i]), v, 1e-5, `unit ${i}`);
      if (quantized) checkQuantized(out['units'] as Float32Array, width, out['q']!, out['largest']!);
    }),
    { numRuns: 60 },
  );
});

test('units that do not divide into blocks fail the run by name', () => {
  using model = writeModel((g) => {
    const made = gatedUnits(g, g.input('gate_up', 'f32', ['tokens', 24]), 'silu', g.input('signs', 'f32', ['block']), false);
    emit(g, { units: made.units });
  });
  using runner = new Runner(model, 1);
  const run = (block: number) =>
    runner.run(
      { gate_up: f32([1, 24], new Float32Array(24)), signs: f32([block], new Float32Array(block)) },
      { 'out.units': { dtype: 'f32', dims: [1, 12] } },
    );
  assert.throws(() => run(8), /GatedUnits: blocks of 8 in 12 units/);
  assert.throws(() => run(3), /GatedUnits: blocks of 3 in 12 units/);
});
