/** The disk tier keeps to its limit, survives restarts and kills, and never answers what is not the image. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { ImageDisk } from '../../../gpu-worker/adapters/image-disk.ts';

const digestOf = (i: number) => String(i).padStart(64, '0');
/** Images here say whose they are in each byte. */
const imageOf = (i: number, bytes = 100) => new Uint8Array(bytes).fill(i).buffer;
const check = (image: ArrayBuffer, digest: string) => new Uint8Array(image).every((byte) => byte === Number(digest));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'images-'));
});
afterEach(() => rm(folder, { recursive: true }));

const open = (limit = 1000) => ImageDisk.open({ folder: join(folder, 'form'), limit, check });
const files = async () => (await readdir(join(folder, 'form'))).sort();

test('what was put is there, also after a restart; a temporary file of a killed process is not', async () => {
  await (await open()).put(digestOf(1), imageOf(1));
  await writeFile(join(folder, 'form', `${digestOf(2)}-abcdef.tmp`), 'half');
  const disk = await open();
  assert.deepEqual(new Uint8Array((await disk.get(digestOf(1)))!), new Uint8Array(imageOf(1)));
  assert.equal(await disk.get(digestOf(2)), null);
  assert.deepEqual(await files(), [digestOf(1)]);
  assert.deepEqual([disk.size, disk.bytes], [1, 100]);
});

test('what another process put is found', async () => {
  const [one, other] = [await open(), await open()];
  await one.put(digestOf(1), imageOf(1));
  assert.ok(await other.get(digestOf(1)));
  assert.equal(other.bytes, 100);
});

test('damaged, cut and empty files count as absent and are gone', async () => {
  const disk = await open();
  for (const [i, content] of [
    [1, new Uint8Array(imageOf(2))],
    [2, 'text'],
  ] as const) {
    await disk.put(digestOf(i), imageOf(i));
    await writeFile(join(folder, 'form', digestOf(i)), content);
    assert.equal(await disk.get(digestOf(i)), null);
  }
  assert.deepEqual([await files(), disk.damaged, disk.size, disk.bytes], [[], 2, 0, 0]);
  await disk.put(digestOf(1), imageOf(1));
  assert.ok(await disk.get(digestOf(1)));
});

test('a deleted folder costs its content only', async () => {
  const disk = await open();
  await disk.put(digestOf(1), imageOf(1));
  await rm(join(folder, 'form', digestOf(1)));
  assert.equal(await disk.get(digestOf(1)), null);
  assert.equal(disk.damaged, 0);
});

test('it keeps to its limit: the seldom used leave first, also at the start with a smaller limit', async () => {
  const disk = await open(300);
  for (const i of [1, 2, 3]) await disk.put(digestOf(i), imageOf(i));
  for (const i of [1, 3, 1, 3]) await disk.get(digestOf(i));
  await disk.put(digestOf(4), imageOf(4));
  assert.deepEqual(await files(), [1, 3, 4].map(digestOf));
  assert.equal(disk.evictions, 1);
  assert.equal((await open(150)).size, 1);
  assert.equal((await files()).length, 1);
});

test('what is larger than the limit is not kept, and nothing leaves for it', async () => {
  const disk = await open(300);
  await disk.put(digestOf(1), imageOf(1));
  await disk.put(digestOf(2), imageOf(2, 301));
  assert.deepEqual(await files(), [digestOf(1)]);
});
