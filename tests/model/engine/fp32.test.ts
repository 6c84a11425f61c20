/**
 * The real base in float32 against transformers and PEFT: next-token logits, greedy answers, perplexity, and the
 * validation outputs of four trained adapters. Log-probabilities stand for logits: the top 20 logits of a reference
 * are shifted to the engine's by one number for each row.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { generate, open, type SequenceResult } from '../../synthetic/engine/support.ts';
import { basePath } from '../source/base-path.ts';
import { ADAPTERS, type GoldenPrompt, golden, loadAdapter, type NextTokens, perplexityText, type ValidationOutput } from './support.ts';

const TOLERANCE = 2e-3;
/** Where the two best logits are nearer than this, another arithmetic may take the other. */
const UNDECIDED = 4e-3;

const { engine, ...opened } = await open({ basePath: basePath(), precision: 'fp32', context: 2048 });
after(() => opened[Symbol.asyncDispose]());

/** Differences within a row do not depend on what log-probabilities subtract from all of its logits. Returns the largest error. */
function assertNextTokens({ logprobs }: SequenceResult, expected: NextTokens, where: string): number {
  const { top } = logprobs![0]!;
  const got = new Map(top.map((t) => [t.id, t.logprob]));
  const shifts = expected.ids.flatMap((id, i) => (got.has(id) ? [expected.logits[i]! - got.get(id)!] : []));
  const shift = shifts.reduce((sum, x) => sum + x, 0) / shifts.length;
  let worst = 0;
  for (const [i, id] of expected.ids.entries()) {
    const logprob = got.get(id);
    const logit = expected.logits[i]!;
    // The last of the twenty may be another where it is as likely.
    if (logprob === undefined) assert.ok(logit - expected.logits.at(-1)! < UNDECIDED, `${where}: token ${id} is missing`);
    else worst = Math.max(worst, Math.abs(logprob + shift - logit));
    assert.ok(worst <= TOLERANCE, `${where}: token ${id} is off by ${worst}`);
    const next = expected.logits[i + 1];
    if (next !== undefined && logit - next > UNDECIDED) {
      const place = (wanted: number) => top.findIndex((t) => t.id === wanted);
      assert.ok(place(id) < place(expected.ids[i + 1]!) || place(expected.ids[i + 1]!) < 0, `${where}: order of token ${id}`);
    }
  }
  return worst;
}

/** Equal up to the first step that was nearly a tie. */
function assertGreedy(got: readonly number[], expected: readonly number[], gaps: readonly number[], where: string): void {
  const undecided = gaps.findIndex((gap) => gap < UNDECIDED);
  const sure = undecided < 0 ? expected.length : undecided;
  assert.deepEqual(got.slice(0, sure), expected.slice(0, sure), where);
  if (undecided < 0) assert.equal(got.length, expected.length, where);
}

test('the prompts: next tokens and greedy answers', async (t) => {
  const prompts = golden<GoldenPrompt[]>('prompts.json');
  const answers = await Promise.all(prompts.map(({ ids, greedy }) => generate(engine, ids, { logprobs: 20, maxTokens: greedy.length })));
  let worst = 0;
  for (const [i, answer] of answers.entries()) {
    const { next, greedy, greedy_top2_gaps } = prompts[i]!;
    worst = Math.max(worst, assertNextTokens(answer, next, `prompt ${i}`));
    assertGreedy(answer.ids, greedy, greedy_top2_gaps, `prompt ${i}`);
  }
  t.diagnostic(`largest error of a logit: ${worst}`);
});

test('perplexity of the text in one window, token by token', async (t) => {
  const { ids, logprobs } = perplexityText();
  const { prompt } = await generate(engine, ids, { echo: true, logprobs: 0, maxTokens: 0 });
  const [first, ...got] = prompt!.logprobs!;
  assert.equal(first, null);
  const worst = got.reduce((max, x, i) => Math.max(max, Math.abs(x!.logprob - logprobs[i]!)), 0);
  assert.ok(worst <= 1e-3, `a log-probability is off by ${worst}`);
  const nll = -got.reduce((sum, x) => sum + x!.logprob, 0) / got.length;
  t.diagnostic(`perplexity ${Math.exp(nll)}, largest error of a log-probability ${worst}`);
  assert.ok(Math.abs(Math.exp(nll) - 22.385) <= 0.01, `perplexity ${Math.exp(nll)}`);
});

/** Outputs whose answer without the adapter is asked for too: it must not be touched by its neighbours' adapters. */
const WITHOUT_ADAPTER = 4;

describe('validation outputs', () => {
  for (const name of ADAPTERS) {
    test(`${name}: with the adapter, and some without it at its side`, async (t) => {
      const adapters = [{ digest: await loadAdapter(engine, name), weight: 1 }];
      const outputs = golden<ValidationOutput[]>(`adapters/${name}/val_outputs.json`);
      assert.equal(outputs.length, 16);
      const asked = outputs.flatMap(({ ids, adapter, base }, i) => [
        { ids, adapters, expected: adapter, where: `output ${i}` },
        ...(i < WITHOUT_ADAPTER ? [{ ids, adapters: [], expected: base, where: `output ${i} without the adapter` }] : []),
      ]);
      let worst = 0;
      await Promise.all(
        asked.map(async ({ ids, adapters, expected, where }) => {
          const answer = await generate(engine, ids, { adapters, logprobs: 20, maxTokens: expected.greedy.length });
          worst = Math.max(worst, assertNextTokens(answer, expected.next, where));
          assertGreedy(answer.ids, expected.greedy, expected.top2_gaps, where);
        }),
      );
      t.diagnostic(`largest error of a logit: ${worst}`);
    });
  }
});
