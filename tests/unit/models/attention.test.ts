/** What attention refuses before anything is computed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { precisionOf } from '../../../gpu-worker/models/precisions.ts';
import { prepareModel } from '../../../gpu-worker/models/prepare.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { failure, TINY_GGUF, temporaryFolder } from '../source/fixtures.ts';

test('a head size that the kernel cannot take is refused by name', async (t) => {
  const [base, folder] = [await openCheckpoint(TINY_GGUF), await temporaryFolder(t)];
  const prepare = () => prepareModel(base, precisionOf('fp32'), folder);
  assert.throws(prepare, failure('unsupported', /head_dim: expected a multiple of 8 up to 512, got 4/));
});
