/** What every container owes behind the Checkpoint interface. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { ModelConfig } from '../../../gpu-worker/models/source/config.ts';
import { LLAMA, LLAMA_UNTIED, TINY_GGUF } from '../../unit/source/fixtures.ts';

for (const [container, path] of [
  ['GGUF file', TINY_GGUF],
  ['folder, tied head', LLAMA],
  ['folder, head of its own', LLAMA_UNTIED],
] as const) {
  test(`${container}: config, names, shapes and tensors agree`, async () => {
    const base = await openCheckpoint(path);
    assert.deepEqual(ModelConfig.parse(base.config), base.config);
    const names = base.tensorNames();
    assert.equal(new Set(names).size, names.length);
    assert.equal(names.includes('lm_head.weight'), !base.config.tie_word_embeddings);
    assert.deepEqual(base.shape('model.embed_tokens.weight'), [base.config.vocab_size, base.config.hidden_size]);
    for (const name of names) {
      const elements = base.shape(name).reduce((product, n) => product * n, 1);
      assert.equal(base.tensor(name).length, elements, name);
    }
  });

  test(`${container}: the caller may change what it gets`, async () => {
    const base = await openCheckpoint(path);
    const first = base.tensor('model.norm.weight');
    const untouched = first.slice();
    first.fill(Number.NaN);
    base.shape('model.norm.weight').fill(0);
    assert.deepEqual(base.tensor('model.norm.weight'), untouched);
    assert.deepEqual(base.shape('model.norm.weight'), [base.config.hidden_size]);
  });

  test(`${container}: revision and id do not depend on when it is opened`, async () => {
    const [a, b] = [await openCheckpoint(path), await openCheckpoint(path)];
    assert.match(a.revision, /^[0-9a-f]{64}$/);
    assert.deepEqual([a.id, a.revision], [b.id, b.revision]);
  });
}
