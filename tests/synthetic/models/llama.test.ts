/** Tiny llamas against transformers: logits, greedy answers, and the same weights in other containers. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { LLAMA, LLAMA_UNTIED, temporaryFolder } from '../../unit/source/fixtures.ts';
import { generate, open } from '../engine/support.ts';
import { type Format, floatsOf, largestDifference, logitsOf, promptsOf, tensorsOf, writeWeights } from './support.ts';

const TOLERANCE = 2e-4;
const PROMPTS = [
  [1, 17, 300, 42, 9, 101],
  [250, 3],
];

for (const [name, folder] of [
  ['llama', LLAMA],
  ['llama-untied-rope3', LLAMA_UNTIED],
] as const) {
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

    test('greedy answers, alone and side by side', async () => {
      await using opened = await open({ basePath: folder, precision: 'fp32', threads: 1 });
      const answers = JSON.parse(readFileSync(join(folder, 'greedy.json'), 'utf8')) as { prompt: number[]; tokens: number[] }[];
      const ask = ({ prompt, tokens }: (typeof answers)[number]) =>
        generate(opened.engine, prompt, { maxTokens: tokens.length, ignoreEos: true });
      for (const answer of answers) assert.deepEqual((await ask(answer)).ids, answer.tokens);
      const together = await Promise.all([...answers, ...answers].map(ask));
      assert.deepEqual(
        together.map(({ ids }) => ids),
        [...answers, ...answers].map(({ tokens }) => tokens),
      );
    });
  });
}

/** Values that the narrow format holds exactly. */
const ROUND: Record<Exclude<Format, 'F32'>, (x: number, bits: DataView) => number> = {
  BF16: (x, bits) => {
    bits.setFloat32(0, x);
    bits.setUint32(0, bits.getUint32(0) & 0xffff0000);
    return bits.getFloat32(0);
  },
  F16: (x, bits) => {
    if (Math.abs(x) < 2 ** -14) return 0;
    bits.setFloat32(0, x);
    bits.setUint32(0, bits.getUint32(0) & 0xffffe000);
    return bits.getFloat32(0);
  },
};

describe('the same weights in other containers give the same bits', () => {
  for (const format of ['F16', 'BF16'] as const) {
    test(`stored as ${format}`, async (t) => {
      const base = await openCheckpoint(LLAMA_UNTIED);
      const bits = new DataView(new ArrayBuffer(4));
      const weights = new Map(
        base.tensorNames().map((name) => [name, { shape: base.shape(name), values: base.tensor(name).map((x) => ROUND[format](x, bits)) }]),
      );
      const [narrow, wide] = [await temporaryFolder(t), await temporaryFolder(t)];
      for (const [folder, stored] of [
        [narrow, format],
        [wide, 'F32'],
      ] as const) {
        copyFileSync(join(LLAMA_UNTIED, 'config.json'), join(folder, 'config.json'));
        writeWeights(join(folder, 'model.safetensors'), weights, stored);
      }
      assert.deepEqual(await logitsOf(narrow, PROMPTS), await logitsOf(wide, PROMPTS));
    });
  }

  test('in shards', async (t) => {
    const base = await openCheckpoint(LLAMA);
    const folder = await temporaryFolder(t);
    copyFileSync(join(LLAMA, 'config.json'), join(folder, 'config.json'));
    const weight_map: Record<string, string> = {};
    for (const shard of [0, 1, 2]) {
      const names = base.tensorNames().filter((_, i) => i % 3 === shard);
      const file = `model-${shard}.safetensors`;
      writeWeights(join(folder, file), new Map(names.map((name) => [name, { shape: base.shape(name), values: base.tensor(name) }])), 'F32');
      for (const name of names) weight_map[name] = file;
    }
    writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
    assert.deepEqual(await logitsOf(folder, PROMPTS), await logitsOf(LLAMA, PROMPTS));
  });
});
