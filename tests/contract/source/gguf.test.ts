/** GGUF files that llama.cpp's converter made of the tiny models: the same weights, bit for bit, and the same network. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { ropeFrequencies } from '../../../gpu-worker/models/rope.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import type { ModelConfig } from '../../../gpu-worker/models/source/config.ts';
import { at } from '../../unit/source/fixtures.ts';

const FILES = at('source');
const converted = readdirSync(FILES).filter((file) => file.endsWith('.gguf') && file !== 'tiny-llama.gguf');
assert.ok(converted.length >= 5);

/** GGUF holds numbers in float32, and Llama 3's scaling as a factor for each pair; special tokens come with a tokenizer. */
const comparable = ({ rope_theta, rope_scaling, head_dim, bos_token_id: _, eos_token_id: __, ...rest }: ModelConfig) => ({
  ...Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, typeof value === 'number' ? Math.fround(value) : value])),
  frequencies: [...ropeFrequencies({ dims: head_dim, theta: rope_theta!, scaling: rope_scaling! })].map((f) => f.toPrecision(6)),
});

for (const file of converted) {
  describe(file, () => {
    const folder = at(`families/${basename(file, '.gguf')}`);

    test('every tensor', async () => {
      const [base, golden] = [await openCheckpoint(join(FILES, file)), await openCheckpoint(folder)];
      assert.deepEqual(base.tensorNames(), golden.tensorNames());
      for (const name of golden.tensorNames()) {
        assert.deepEqual(base.shape(name), golden.shape(name), name);
        assert.deepEqual(base.tensor(name), golden.tensor(name), name);
      }
    });

    test('the config', async () => {
      const [base, golden] = [await openCheckpoint(join(FILES, file)), await openCheckpoint(folder)];
      assert.deepEqual(comparable(base.config), comparable(golden.config));
    });
  });
}
