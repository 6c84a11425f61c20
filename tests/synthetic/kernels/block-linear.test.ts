/** Linears with weights in blocks: against the formula in float64, bit for bit the same in any company. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BLOCK_INPUTS, blockBytes, blockLinear, type Finish, finishLinear, LANES } from '../../../gpu-worker/graph/kernels.ts';
import * as ops from '../../../gpu-worker/graph/ops.ts';
import { encodeBlocks } from '../../../gpu-worker/models/int4.ts';
import { noise } from '../engine/support.ts';
import { f32, type ModelFile, writeModel } from '../runtime/support.ts';
import { Case, shape } from './adapted-case.ts';
import { Runner } from './runner.ts';

type Bits = 4 | 8;

function model(encoded: Uint8Array, inputs: number, outputs: number, bits: Bits): ModelFile {
  return writeModel((g) => {
    const dims = [Math.ceil(outputs / LANES), Math.ceil(inputs / BLOCK_INPUTS), blockBytes(bits)];
    const weight = g.weight('w', 'u8', dims, () => encoded);
    const finish = { linears: [{ module: 0, out: outputs }], adapted: null, bias: null };
    const y = blockLinear(g, g.input('x', 'f32', ['tokens', inputs]), weight, bits, finish);
    g.node('Identity', [y], [g.output({ ...y, name: 'y' })]);
  });
}

/** What weights become: of 4 bits d·u + m between the block's ends, of 8 bits d·u around zero; d and m half floats. */
function decoded(w: Float32Array, inputs: number, outputs: number, bits: Bits): Float64Array {
  const out = new Float64Array(w.length);
  for (let o = 0; o < outputs; o++) {
    for (let first = 0; first < inputs; first += BLOCK_INPUTS) {
      const at = Array.from({ length: BLOCK_INPUTS }, (_, i) => (first + i) * outputs + o);
      const block = at.map((i, n) => (first + n < inputs ? w[i]! : 0));
      const m = Math.f16round(Math.min(...block));
      const d = Math.f16round(bits === 4 ? (Math.max(...block) - m) / 15 : Math.max(...block.map(Math.abs)) / 127);
      const level = (v: number) => (bits === 4 ? d * Math.min(15, Math.max(0, Math.round((v - m) / d))) + m : d * Math.round(v / d));
      for (const [n, i] of at.entries()) if (first + n < inputs) out[i] = d === 0 ? block[n]! : level(block[n]!);
    }
  }
  return out;
}

const size = fc.record({
  tokens: fc.integer({ min: 1, max: 90 }),
  inputs: fc.integer({ min: 1, max: 200 }),
  outputs: fc.integer({ min: 1, max: 100 }),
  bits: fc.constantFrom<Bits>(4, 8),
});

test('products are those of the decoded weights and of 8-bit activations, and a token depends on itself alone', () => {
  fc.assert(
    fc.property(size, ({ tokens, inputs, outputs, bits }) => {
      const [w, x] = [noise(inputs * outputs, 1), noise(tokens * inputs, 2)];
      using file = model(encodeBlocks(w, inputs, outputs, bits), inputs, outputs, bits);
      using one = new Runner(file, 1);
      using two = new Runner(file, 2);
      const run = (runner: Runner, from: number, to: number) =>
        runner.run(
          { x: f32([to - from, inputs], x.slice(from * inputs, to * inputs)) },
          { y: { dtype: 'f32', dims: [to - from, outputs] } },
        ).y;
      const y = run(one, 0, tokens);
      assert.deepEqual(run(two, 0, tokens), y, 'threads');
      const cut = tokens >> 1;
      assert.deepEqual([...run(two, 0, cut + 1).slice(0, cut * outputs), ...run(one, cut, tokens)], [...y], 'cut');
      const weights = decoded(w, inputs, outputs, bits);
      for (let t = 0; t < tokens; t++) {
        const rounded = roundedRow(x.subarray(t * inputs, (t + 1) * inputs));
        for (let o = 0; o < outputs; o++) {
          let [sum, size] = [0, 0];
          for (let i = 0; i < inputs; i++) {
            const term = rounded[i]! * weights[i * outputs + o]!;
            sum += term;
            size += Math.abs(term);
          }
          assert.ok(
            Math.abs(Number(y[t * outputs + o]) - sum) <= 1e-5 * (1 + size),
            `token ${t}, output ${o}: ${y[t * outputs + o]}, not ${sum}`,
          );
        }
      }
    }),
    { numRuns: 40 },
  );
});

/** x = s · q in blocks of 32, s the largest magnitude over 127; the product with 127 / s is rounded once, half to even. */
function roundedRow(x: Float32Array): number[] {
  const out: number[] = [];
  for (let first = 0; first < x.length; first += BLOCK_INPUTS) {
    const block = x.subarray(first, first + BLOCK_INPUTS);
    const largest = block.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    const [scale, factor] = [Math.fround(largest / 127), Math.fround(127 / largest)];
    for (const v of block) out.push(largest === 0 ? 0 : halfToEven(v * factor) * scale);
  }
  return out;
}

function halfToEven(x: number): number {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 !== 0 ? near - 1 : near;
}

test('weights that were levels of a scale and a least value come back exactly', () => {
  const [inputs, outputs] = [64, 20];
  const d = Math.f16round(0.037);
  const m = Math.f16round(-0.21);
  // Every block has the least and the largest level, as those of a Q4_1 file do.
  const levels = Array.from({ length: inputs * outputs }, (_, at) => (Math.floor(at / outputs) * 7 + at * 3) % 16);
  for (let o = 0; o < outputs; o++) {
    for (const first of [0, 32]) {
      levels[first * outputs + o] = 0;
      levels[(first + 1) * outputs + o] = 15;
    }
  }
  const w = Float32Array.from(levels, (level) => d * level + m);
  using file = model(encodeBlocks(w, inputs, outputs, 4), inputs, outputs, 4);
  using runner = new Runner(file, 1);
  for (let i = 0; i < inputs; i++) {
    const x = new Float32Array(inputs);
    x[i] = 1;
    const { y } = runner.run({ x: f32([1, inputs], x) }, { y: { dtype: 'f32', dims: [1, outputs] } });
    for (let o = 0; o < outputs; o++) assert.ok(Math.abs(Number(y[o]) - w[i * outputs + o]!) < 1e-6, `input ${i}, output ${o}`);
  }
});

test('biases and adapters come in one pass to the same bits as after the product, whoever shares the run', () => {
  fc.assert(
    fc.property(shape, fc.constantFrom<Bits>(4, 8), (drawn, bits) => {
      const sample = new Case({ ...drawn, scaled: false });
      if (sample.tokens === 0) return;
      const { in: inputs } = drawn;
      const encoded = encodeBlocks(noise(inputs * sample.width, 9), inputs, sample.width, bits);
      const model = (fused: boolean) =>
        writeModel((g) =>
          sample.build(g, ({ y, x, finish }) => {
            // The case's own y takes part as nothing, so that both models have the same inputs.
            const dims = [Math.ceil(sample.width / LANES), Math.ceil(inputs / BLOCK_INPUTS), blockBytes(bits)];
            const weight = g.weight('w', 'u8', dims, () => encoded);
            const product = (on: Finish) => blockLinear(g, x, weight, bits, on);
            const none = { linears: finish.linears, adapted: null, bias: null };
            const out = fused ? product(finish) : finishLinear(g, product(none), x, null, finish);
            return ops.add(g, out, ops.mul(g, y, g.scalar('f32', 0)));
          }),
        );
      using together = model(true);
      using apart = model(false);
      using one = new Runner(together, 1);
      using two = new Runner(together, 2);
      using after = new Runner(apart, 2);
      const expected = sample.whole(after);
      assert.deepEqual(sample.whole(one), expected, 'one thread');
      assert.deepEqual(sample.whole(two), expected, 'two threads');
      let first = 0;
      for (const [row, { tokens }] of drawn.rows.entries()) {
        const last = first + tokens;
        if (tokens > 0) {
          const alone = sample.run(two, first, last, [{ row, tokens }]);
          assert.deepEqual(alone, expected.slice(first * sample.width, last * sample.width), `row ${row} alone`);
        }
        first = last;
      }
    }),
    { numRuns: 40 },
  );
});

test('a weight of another shape fails the run by name', () => {
  using file = model(encodeBlocks(noise(40 * 16, 1), 40, 16, 4), 40, 16, 4);
  using runner = new Runner(file, 1);
  const x = f32([1, 80], new Float32Array(80));
  assert.throws(
    () => runner.run({ x }, { y: { dtype: 'f32', dims: [1, 16] } }),
    /BlockLinear: weight \[1, 2, 320\] for 80 inputs|Got invalid dimensions/,
  );
});
