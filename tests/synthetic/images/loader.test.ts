/** Where adapter images come from: disk, else storage, else the sealed form; damage anywhere costs time, never a wrong image. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { ImageLoader } from '../../../gpu-worker/adapters/loader.ts';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { isImage } from '../../../gpu-worker/models/adapter-image.ts';
import { imageForm } from '../../../gpu-worker/models/image-form.ts';
import { precisionOf } from '../../../gpu-worker/models/precisions.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { imageKey, sealedKey } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import { packageFiles } from '../../contract/adapters/support.ts';
import { LLAMA } from '../../unit/source/fixtures.ts';
import { startObjects } from './objects.ts';

const checkpoint = await openCheckpoint(LLAMA);
const form = imageForm(checkpoint, precisionOf('int8'));
const sealed = sealPackage(packageFiles('adapters/lora-r8-qv', ['delta.safetensors']), baseModules(checkpoint));
const other = sealPackage(packageFiles('adapters/lora-r4-all-linear', ['delta.safetensors']), baseModules(checkpoint));
const { digest } = sealed;
const storage = await startObjects();
after(() => storage.stop());

let cacheFolder: string;
let loader: ImageLoader;
let warnings: string[];
beforeEach(async () => {
  cacheFolder = await mkdtemp(join(tmpdir(), 'images-'));
  warnings = [];
  storage.objects.clear();
  storage.objects.set(sealedKey(digest), sealed.bytes);
  loader = open(1e9);
});
afterEach(async () => {
  await loader.close();
  await rm(cacheFolder, { recursive: true });
});

const open = (diskLimit: number) =>
  new ImageLoader(
    { basePath: LLAMA, precision: 'int8', edgeUrl: storage.url, s3Secret: 'secret', cacheFolder, diskLimit, limit: 1e9 },
    (message) => warnings.push(message),
  );
const file = () => join(cacheFolder, form.id, digest);

/** Loads the adapter; answers where its image came from and which objects were read, once it is on disk. */
async function load(keeps = true): Promise<[string, string[]]> {
  const { image, source } = await loader.load(digest);
  assert.ok(isImage(image, digest, form.id));
  if (keeps) await eventually(() => existsSync(file()));
  return [source, storage.taken()];
}

async function eventually(is: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !is(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(is());
}

test('made of the sealed form once; then it comes from disk, and without the disk from storage', async () => {
  assert.deepEqual(await load(), ['sealed', ['sealed']]);
  assert.deepEqual(await load(), ['disk', []]);
  assert.deepEqual([loader.disk.images, loader.disk.damaged], [1, 0]);
  await eventually(() => storage.objects.has(imageKey(form.id, digest)));
  await rm(file());
  assert.deepEqual(await load(), ['object_storage', ['images']]);
  assert.deepEqual(await load(), ['disk', []]);
});

test('an adapter that was just sealed has its image on disk and in storage before its first use', async () => {
  await loader.store(digest, sealed.bytes);
  assert.ok(storage.objects.has(imageKey(form.id, digest)));
  assert.deepEqual(await load(), ['disk', []]);
});

test('a damaged file is fetched anew; a damaged or foreign object is made anew', async () => {
  await loader.store(digest, sealed.bytes);
  const whole = await readFile(file());
  for (const damaged of [whole.subarray(0, -1), Buffer.alloc(0), Buffer.from(whole.map((byte, i) => (i === 5000 ? byte ^ 1 : byte)))]) {
    await writeFile(file(), damaged);
    assert.deepEqual(await load(), ['object_storage', ['images']]);
  }
  assert.equal(loader.disk.damaged, 3);
  await loader.store(other.digest, other.bytes);
  for (const foreign of [storage.objects.get(imageKey(form.id, other.digest))!, whole.subarray(0, 100)]) {
    storage.objects.set(imageKey(form.id, digest), foreign);
    await rm(file());
    assert.deepEqual(await load(), ['sealed', ['images', 'sealed']]);
    await eventually(() => Buffer.from(storage.objects.get(imageKey(form.id, digest))!).equals(whole));
  }
  assert.deepEqual(warnings, []);
});

test('what storage lacks or holds wrongly is a failure, and the next load finds what is there by then', async () => {
  const failure = async () => {
    const error = await loader.load(digest).then(
      () => assert.fail('it came'),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof Failure);
    return error.value;
  };
  storage.objects.clear();
  assert.equal((await failure()).kind, 'not_found');
  storage.objects.set(sealedKey(digest), other.bytes);
  assert.match((await failure()).message, new RegExp(`${digest}: its sealed bytes have SHA-256 ${other.digest}`));
  storage.objects.set(sealedKey(digest), sealed.bytes);
  assert.deepEqual((await load())[0], 'sealed');
});

test('a disk that cannot be written to is told of, and answers go on', async () => {
  await loader.store(digest, sealed.bytes);
  await rm(join(cacheFolder, form.id), { recursive: true });
  await writeFile(join(cacheFolder, form.id), 'a file where the folder was');
  assert.deepEqual((await load(false))[0], 'object_storage');
  await eventually(() => warnings.length > 0);
  await rm(join(cacheFolder, form.id));
  await mkdir(join(cacheFolder, form.id));
  await load();
  assert.deepEqual(await readdir(join(cacheFolder, form.id)), [digest]);
});
