/** The same weights in other containers. */
import assert from 'node:assert/strict';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { LLAMA, LLAMA_UNTIED, temporaryFolder } from '../../unit/source/fixtures.ts';
import { type Format, logitsOf, writeWeights } from './support.ts';

const PROMPTS = [
  [1, 17, 300, 42, 9, 101],
  [250, 3],
];

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
