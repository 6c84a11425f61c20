/** Finishing a linear: against the formula in float64, and bit for bit the same whatever shares the run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Graph } from '../../../gpu-worker/graph/ir.ts';
import { finishLinear } from '../../../gpu-worker/graph/kernels.ts';
import { writeModel } from '../runtime/support.ts';
import { Case, shape } from './adapted-case.ts';
import { Runner } from './runner.ts';

const finished =
  (g: Graph): Parameters<Case['build']>[1] =>
  ({ y, x, rowScale, finish }) =>
    finishLinear(g, y, x, rowScale, finish);

test('finishing linears adds scale, bias and every adapter of a row, and its bits depend on nothing else', () => {
  fc.assert(
    fc.property(shape, fc.infiniteStream(fc.nat()), (drawn, picks) => {
      const sample = new Case(drawn);
      if (sample.tokens === 0) return;
      using model = writeModel((g) => sample.build(g, finished(g)));
      using one = new Runner(model, 1);
      using two = new Runner(model, 2);
      const out = sample.whole(one);
      assert.deepEqual(sample.whole(two), out, 'threads');
      let token = 0;
      for (const [row, { tokens }] of drawn.rows.entries()) {
        for (let t = 0; t < tokens; t++, token++) {
          const { value, size } = sample.expected(token, row);
          for (let c = 0; c < sample.width; c++) {
            const got = out[token * sample.width + c]!;
            assert.ok(Math.abs(got - value[c]!) <= 1e-5 * size[c]!, `token ${token}, column ${c}: ${got}, not ${value[c]}`);
          }
        }
        if (tokens === 0) continue;
        const first = token - tokens;
        const some = 1 + (picks.next().value! % tokens);
        const alone = sample.run(two, first, first + some, [{ row, tokens: some }]);
        assert.deepEqual(alone, out.slice(first * sample.width, (first + some) * sample.width), `row ${row} alone`);
      }
    }),
    { numRuns: 60 },
  );
});

test('rows that do not fit, unknown factors and wrong shapes fail the run by name', () => {
  const sample = new Case({
    in: 4,
    widths: [8],
    adapters: [[{ rank: 2, kind: 'f32' }]],
    rows: [{ tokens: 2, uses: [{ adapter: 0, weight: 1 }] }],
    scaled: false,
    biased: false,
  });
  using model = writeModel((g) => sample.build(g, finished(g)));
  using runner = new Runner(model, 1);
  assert.throws(() => sample.run(runner, 0, 2, [{ row: 0, tokens: 3 }]), /FinishLinear: the rows have 3 tokens, y has 2/);
  assert.throws(() => sample.run(runner, 0, 2, [{ row: 0, tokens: -2 }]), /FinishLinear: row 0/);
  const view = new DataView(sample.adapters[0]!.table.buffer);
  view.setInt32(20, -1, true);
  assert.throws(() => sample.whole(runner), /FinishLinear: row 0, adapter 0: rank -1/);
  view.setInt32(20, 2, true);
  view.setInt32(24, 9, true);
  assert.throws(() => sample.whole(runner), /FinishLinear: row 0, adapter 0: factors of kind 9/);
});
