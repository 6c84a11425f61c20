/** Tiny models of every family against transformers: logits of every position, greedy answers, in 8 bits about the same. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { FAMILIES, floatsOf, greedyOf, largestDifference, logitsOf, promptsOf, rootMeanSquare, tensorsOf } from './support.ts';

const TOLERANCE = 2e-4;
/** Of the size of the logits: what 8-bit rows and columns of 64 random numbers leave. */
const INT8_TOLERANCE = 0.05;
/** Difference of router logits between the last expert chosen and the first that is not. */
const CLOSE_CHOICE = 0.05;

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
      const prompts = promptsOf(cases, 'a.input_ids');
      const expected = floatsOf(cases, 'a.logits');
      const width = expected.length / prompts.length;
      const { vocab_size } = (await openCheckpoint(folder)).config;
      const rows = await logitsOf(folder, prompts, 'int8');
      const judged = rows.map((row, i) => row.subarray(0, clearTokens(cases, i, prompts[i]!.length) * vocab_size));
      const golden = judged.flatMap((row, i) => [...expected.subarray(i * width, i * width + row.length)]);
      const errors = judged.flatMap((row) => [...row]).map((x, i) => x - golden[i]!);
      const share = rootMeanSquare(errors) / rootMeanSquare(golden);
      t.diagnostic(`error of the logits: ${share} of their size, over ${golden.length / vocab_size} tokens`);
      assert.ok(share <= INT8_TOLERANCE, `the logits are off by ${share} of their size`);
    });

    test('every parameter of the checkpoint has its place', async () => {
      const base = await openCheckpoint(folder);
      const stored = await tensorsOf(join(folder, 'model.safetensors'));
      assert.deepEqual(base.tensorNames().sort(), [...stored.tensors.keys()].sort());
    });
  });
}

/** Tokens of a row of `a` up to the first whose choice of experts is close: another arithmetic may choose otherwise there. */
function clearTokens(cases: Awaited<ReturnType<typeof tensorsOf>>, row: number, tokens: number): number {
  const close = [...cases.tensors.keys()]
    .filter((name) => /^a\.router\.\d+\.logits$/.test(name))
    .map((name) => {
      const experts = cases.tensors.get(name)!.shape[2]!;
      const chosen = cases.tensors.get(name.replace('logits', 'experts'))!.shape[2]!;
      const logits = floatsOf(cases, name).subarray(row * tokens * experts, (row + 1) * tokens * experts);
      const at = Array.from({ length: tokens }, (_, token) => {
        const best = [...logits.subarray(token * experts, (token + 1) * experts)].sort((a, b) => b - a);
        return best[chosen - 1]! - best[chosen]! < CLOSE_CHOICE;
      }).indexOf(true);
      return at < 0 ? tokens : at;
    });
  return Math.min(tokens, ...close);
}
