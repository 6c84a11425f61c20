/** What surrounds experts: products that do not depend on how many rows there are, and rows sorted by expert and brought back. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Graph, Value } from '../../../gpu-worker/graph/ir.ts';
import * as routing from '../../../gpu-worker/graph/routing.ts';
import { fp32 } from '../../../gpu-worker/models/fp32.ts';
import { ORIGINAL } from '../../../gpu-worker/models/linear.ts';
import { noise } from '../engine/support.ts';
import { Runner } from '../kernels/runner.ts';
import { f32, runModel, writeModel } from '../runtime/support.ts';

const ROWS = 130;
const PARTS = [
  [0, ROWS],
  [0, 1],
  [5, 7],
  [36, 37],
  [3, 129],
] as const;

const emit = (g: Graph, name: string, value: Value) => g.node('Identity', [value], [g.output({ ...value, name })]);

describe('routers: a float32 product gives a row the same bits alone and among others', () => {
  for (const width of [64, 777, 2048]) {
    for (const out of [1, 8, 60, 128]) {
      test(`${width} × ${out}`, () => {
        const weight = noise(width * out, 1);
        const x = noise(ROWS * width, 2);
        const spec = { path: 'router', in: width, out, bias: false, exact: true, input: ORIGINAL, output: ORIGINAL };
        using model = writeModel((g) => {
          emit(g, 'y', fp32().product(g, g.input('x', 'f32', ['tokens', width]), [spec], { tensor: () => weight.slice() }).y);
        });
        const results = [1, 2].flatMap((threads) => {
          using runner = new Runner(model, threads);
          return PARTS.map(([from, to]) => {
            const rows = { x: f32([to - from, width], x.slice(from * width, to * width)) };
            return { from, to, y: runner.run(rows, { y: { dtype: 'f32', dims: [to - from, out] } })['y']! };
          });
        });
        const all = results[0]!.y;
        for (const { from, to, y } of results) assert.deepEqual(y, all.slice(from * out, to * out), `rows ${from} to ${to}`);
      });
    }
  }
});

test('rows are sorted by expert, tokens of one expert in their own order, and find back', () => {
  const choices = fc.integer({ min: 1, max: 4 }).chain((k) =>
    fc.record({
      k: fc.constant(k),
      experts: fc.integer({ min: k, max: 9 }),
      tokens: fc.array(fc.array(fc.nat(8), { minLength: k, maxLength: k }), { minLength: 1, maxLength: 12 }),
    }),
  );
  fc.assert(
    fc.property(choices, ({ k, experts, tokens }) => {
      const chosen = tokens.flat().map((e) => e % experts);
      const { rows, places, counts } = runModel(
        (g) => {
          const groups = routing.groupByExpert(g, g.input('chosen', 'i64', ['tokens', k]), k, experts);
          emit(g, 'rows', groups.tokens);
          emit(g, 'places', groups.places);
          emit(g, 'counts', groups.counts);
        },
        { chosen: { dtype: 'i64', dims: [tokens.length, k], data: BigInt64Array.from(chosen, BigInt) } },
        {
          rows: { dtype: 'i64', dims: [chosen.length] },
          places: { dtype: 'i64', dims: [chosen.length] },
          counts: { dtype: 'i64', dims: [experts] },
        },
      );
      const sorted = chosen.map((e, i) => ({ e, i })).sort((a, b) => a.e - b.e || a.i - b.i);
      assert.deepEqual(
        Array.from(rows, Number),
        sorted.map(({ i }) => Math.floor(i / k)),
      );
      assert.deepEqual(
        Array.from(places, Number),
        chosen.map((_, i) => sorted.findIndex((s) => s.i === i)),
      );
      assert.deepEqual(
        Array.from(counts, Number),
        Array.from({ length: experts }, (_, e) => chosen.filter((c) => c === e).length),
      );
    }),
    { numRuns: 40 },
  );
});
