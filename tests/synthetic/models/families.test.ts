/** Tiny models of every family against transformers: logits of every position, greedy answers, in 8 bits about the same. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { FAMILIES, floatsOf, greedyOf, largestDifference, logitsOf, promptsOf, tensorsOf } from './support.ts';

const TOLERANCE = 2e-4;
/** Error by the size of the logits, at the median token: a close choice of experts falls otherwise now and then. */
const INT8_TOLERANCE = 0.05;

for (const name of readdirSync(FAMILIES)) {
  const folder = join(FAMILIES, name);
  describe(name, () => {
    test('logits of every row and position', async (t) => {
      const cases = await tensorsOf(join(folder, 'cases.safetensors'));
      let worst = 0;
      for (const group of ['a', 'b', 'pad']) {
        const prompts = promptsOf(cases, `${group}.input_ids`);
        const expected = floatsOf(cases, `${group}.logits`);
        const rowLength = expected.length / prompts.length;
        const vocabulary = rowLength / prompts[0]!.length;
        // Row 1 of `pad` is its first five tokens; what stands after them means nothing.
        const cut = prompts.map((ids, row) => (group === 'pad' && row === 1 ? ids.slice(0, 5) : ids));
        for (const [row, logits] of (await logitsOf(folder, cut)).entries()) {
          assert.equal(logits.length, cut[row]!.length * vocabulary);
          const golden = expected.subarray(row * rowLength, row * rowLength + logits.length);
          worst = Math.max(worst, largestDifference(logits, golden));
        }
      }
      t.diagnostic(`largest error of a logit: ${worst}`);
      assert.ok(worst <= TOLERANCE, `a logit is off by ${worst}`);
    });

    test('greedy answers', async () => {
      const answers = JSON.parse(readFileSync(join(folder, 'greedy.json'), 'utf8')) as { prompt: number[]; tokens: number[] }[];
      const prompts = answers.map(({ prompt }) => prompt);
      assert.deepEqual(
        await greedyOf(folder, prompts, answers[0]!.tokens.length),
        answers.map(({ tokens }) => tokens),
      );
    });

    test('in 8 bits', async (t) => {
      const cases = await tensorsOf(join(folder, 'cases.safetensors'));
      const expected = floatsOf(cases, 'a.logits');
      const logits = (await logitsOf(folder, promptsOf(cases, 'a.input_ids'), 'int8')).flatMap((row) => [...row]);
      const { vocab_size } = (await openCheckpoint(folder)).config;
      const errors = Array.from({ length: logits.length / vocab_size }, (_, token) => {
        const [from, to] = [token * vocab_size, (token + 1) * vocab_size];
        const golden = expected.subarray(from, to);
        return rootMeanSquare(logits.slice(from, to).map((x, i) => x - golden[i]!)) / rootMeanSquare(golden);
      }).sort((a, b) => a - b);
      const median = errors[errors.length >> 1]!;
      t.diagnostic(`error of the logits by their size: median ${median}, worst ${errors.at(-1)}`);
      assert.ok(median <= INT8_TOLERANCE, `half of the tokens are off by more than ${median} of the logits' size`);
    });

    test('every parameter of the checkpoint has its place', async () => {
      const base = await openCheckpoint(folder);
      const stored = await tensorsOf(join(folder, 'model.safetensors'));
      assert.deepEqual(base.tensorNames().sort(), [...stored.tensors.keys()].sort());
    });
  });
}

const rootMeanSquare = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values, (x) => x * x).reduce((sum, x) => sum + x, 0) / values.length);
