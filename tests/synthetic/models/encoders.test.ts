/** A tiny BERT against transformers: hidden states, with adapters of PEFT, in 8 bits; and a text's bits in any company. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import type { RowAdapter } from '../../../gpu-worker/engine/model.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { packageFiles } from '../../contract/adapters/support.ts';
import { noise } from '../engine/support.ts';
import { ENCODERS, floatsOf, joined, largestDifference, openModel, promptsOf, rootMeanSquare, runPrompts, tensorsOf } from './support.ts';

const TOLERANCE = 2e-4;
/** Of the size of the hidden states: what 8-bit rows and columns of 64 random numbers leave. */
const INT8_TOLERANCE = 0.05;

const FOLDER = join(ENCODERS, 'bert');
const cases = await tensorsOf(join(FOLDER, 'cases.safetensors'));

type Tensors = typeof cases;

/** The texts of a group without what pads them, and where their tokens' values lie in [rows, tokens, width]. */
function textsOf(tensors: Tensors, group: string) {
  const ids = promptsOf(tensors, `${group}.input_ids`);
  const mask = tensors.tensors.has(`${group}.attention_mask`)
    ? promptsOf(tensors, `${group}.attention_mask`)
    : ids.map((row) => row.map(() => 1));
  const expected = floatsOf(tensors, `${group}.last_hidden_state`);
  const each = expected.length / ids.length;
  return ids.map((row, i) => {
    const tokens = mask[i]!.filter((on) => on === 1).length;
    const width = each / row.length;
    return { tokens: row.slice(0, tokens), expected: expected.subarray(i * each, i * each + tokens * width) };
  });
}

const texts = ['a', 'b'].flatMap((group) => textsOf(cases, group));
const prompts = texts.map(({ tokens }) => tokens);

test('hidden states of every token', async (t) => {
  using model = await openModel(FOLDER, 'fp32');
  const worst = Math.max(...runPrompts(model, prompts).map((got, i) => largestDifference(got, texts[i]!.expected)));
  t.diagnostic(`largest error of a hidden state: ${worst}`);
  assert.ok(worst <= TOLERANCE, `a hidden state is off by ${worst}`);
});

test('in 8 bits', async (t) => {
  using model = await openModel(FOLDER, 'int8');
  const golden = texts.flatMap(({ expected }) => [...expected]);
  const errors = runPrompts(model, prompts)
    .flatMap((got) => [...got])
    .map((x, i) => x - golden[i]!);
  const share = rootMeanSquare(errors) / rootMeanSquare(golden);
  t.diagnostic(`error of the hidden states: ${share} of their size`);
  assert.ok(share <= INT8_TOLERANCE, `the hidden states are off by ${share} of their size`);
});

for (const name of ['lora-bert', 'lora-bert-qv-fp16']) {
  describe(name, () => {
    async function run(precision: 'fp32' | 'int8') {
      using model = await openModel(FOLDER, precision);
      const files = packageFiles(`encoders/bert/adapters/${name}`, ['golden.safetensors']);
      const { digest, bytes } = sealPackage(files, baseModules(model.checkpoint));
      const adapter = await model.adapter(digest, bytes);
      const golden = await tensorsOf(join(FOLDER, 'adapters', name, 'golden.safetensors'));
      const adapted = ['a', 'b'].flatMap((group) => textsOf(golden, group));
      const ids = adapted.map(({ tokens }) => tokens);
      const plain = runPrompts(model, ids);
      return runPrompts(model, ids, [adapter]).map((states, i) => ({ states, expected: adapted[i]!.expected, plain: plain[i]! }));
    }

    test('hidden states of every token', async (t) => {
      const rows = await run('fp32');
      const worst = Math.max(...rows.map(({ states, expected }) => largestDifference(states, expected)));
      t.diagnostic(`largest error of a hidden state: ${worst}`);
      assert.ok(worst <= TOLERANCE, `a hidden state is off by ${worst}`);
      const effect = Math.max(...rows.map(({ plain, expected }) => largestDifference(plain, expected)));
      assert.ok(effect > 100 * TOLERANCE, `the adapter changes the hidden states by ${effect} only`);
    });

    test('in 8 bits', async (t) => {
      const rows = await run('int8');
      const golden = rows.flatMap(({ expected }) => [...expected]);
      const errors = rows.flatMap(({ states }) => [...states]).map((x, i) => x - golden[i]!);
      const share = rootMeanSquare(errors) / rootMeanSquare(golden);
      t.diagnostic(`error of the hidden states: ${share} of their size`);
      assert.ok(share <= 2 * INT8_TOLERANCE, `the hidden states are off by ${share} of their size`);
    });
  });
}

test('in 8 bits a text gives the same bits whatever runs beside it, with an adapter or without', async () => {
  const others = [1, 2, 3].map((seed) => Array.from(noise(7 + 9 * seed, seed), (x) => Math.floor(160 * (x + 1))));
  using model = await openModel(FOLDER, 'int8', 1 + others.length);
  const { digest, bytes } = sealPackage(
    packageFiles('encoders/bert/adapters/lora-bert', ['golden.safetensors']),
    baseModules(model.checkpoint),
  );
  const adapter = await model.adapter(digest, bytes);
  const row = (tokens: readonly number[], sequence: number, adapters: RowAdapter[]) => ({
    tokens,
    past: 0,
    pages: model.pages(sequence),
    adapters,
    wanted: tokens.length,
  });
  for (const adapters of [[], [adapter]]) {
    for (const tokens of prompts) {
      const alone = joined(model.executor.run([row(tokens, 0, adapters)]));
      const around = others.map((other, i) => row(other, i + 1, i % 2 ? [adapter] : []));
      const before = around[0]!.wanted;
      const together = model.executor.run([around[0]!, row(tokens, 0, adapters), ...around.slice(1)]);
      assert.deepEqual(joined(together.slice(before, before + tokens.length)), alone);
    }
  }
});
