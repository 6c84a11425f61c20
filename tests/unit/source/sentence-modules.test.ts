/** How sentence-transformers says what becomes of token vectors: read from its files, refused by name where it is not served. */
import assert from 'node:assert/strict';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { familyOf } from '../../../gpu-worker/models/registry.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { readPooling } from '../../../gpu-worker/models/source/sentence-modules.ts';
import { at, failure, temporaryFolder } from './fixtures.ts';

const module = (kind: string, path = '') => ({ idx: 0, name: '0', path, type: `sentence_transformers.models.${kind}` });
const STANDARD = [module('Transformer'), module('Pooling', '1_Pooling'), module('Normalize', '2_Normalize')];
const modes = (...on: string[]) =>
  Object.fromEntries(['cls_token', 'mean_tokens', 'max_tokens', 'lasttoken'].map((mode) => [`pooling_mode_${mode}`, on.includes(mode)]));

const read = (files: Record<string, unknown>) => readPooling('/base', async (name) => files[name] ?? null);
const pooling = (...on: string[]) => ({
  'modules.json': STANDARD,
  '1_Pooling/config.json': { word_embedding_dimension: 64, ...modes(...on) },
});

test('mean and first token', async () => {
  assert.equal(await read(pooling('mean_tokens')), 'mean');
  assert.equal(await read(pooling('cls_token')), 'cls');
  assert.equal(await read({}), null);
});

const refused: [string, Record<string, unknown>, RegExp][] = [
  ['another pooling', pooling('max_tokens'), /1_Pooling\/config\.json: expected one of .* alone, got \["pooling_mode_max_tokens"\]/],
  ['two at once', pooling('mean_tokens', 'cls_token'), /got \["pooling_mode_cls_token","pooling_mode_mean_tokens"\]/],
  ['no config of the pooling', { 'modules.json': STANDARD }, /1_Pooling\/config\.json/],
  ['a layer on top', { 'modules.json': [...STANDARD, module('Dense', '3_Dense')] }, /got "Dense"/],
  ['no pooling', { 'modules.json': [module('Transformer')] }, /expected a Pooling module/],
  ['a path out of the folder', { 'modules.json': [module('Pooling', '../x')] }, /expected a list of modules/],
];
for (const [what, files, message] of refused) {
  test(`refused: ${what}`, async () => {
    await assert.rejects(read(files), failure('unsupported', message));
  });
}

test('a folder with such files: its pooling is part of what the base is', async (t) => {
  const folder = await temporaryFolder(t);
  await cp(at('encoders/bert'), folder, { recursive: true });
  const plain = await openCheckpoint(folder);
  assert.equal(familyOf(plain.config).pooling?.(plain.config), 'mean');
  await mkdir(join(folder, '1_Pooling'));
  await writeFile(join(folder, 'modules.json'), JSON.stringify(STANDARD));
  await writeFile(join(folder, '1_Pooling', 'config.json'), JSON.stringify(modes('cls_token')));
  const pooled = await openCheckpoint(folder);
  assert.equal(familyOf(pooled.config).pooling?.(pooled.config), 'cls');
  assert.notEqual(pooled.revision, plain.revision);
});
