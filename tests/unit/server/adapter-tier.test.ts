/** Adapters are loaded once however many ask, stay while pinned, leave in order of use, and are what their digest says. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { AdapterTier } from '../../../gpu-worker/server/adapter-tier.ts';
import { openDiskCache } from '../../../gpu-worker/storage/disk-cache.ts';
import { sealedKey } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';

const adapters = Array.from({ length: 6 }, (_, i) => new Uint8Array(100).fill(i));
const digests = adapters.map((bytes) => createHash('sha256').update(bytes).digest('hex'));

let folder: string;
let fetched: string[];
let resident: Set<string>;
let objects: Map<string, Uint8Array>;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tier-'));
  fetched = [];
  resident = new Set();
  objects = new Map(adapters.map((bytes, i) => [sealedKey(digests[i]!), bytes]));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function tier(budget: number, diskLimit = 1e6): Promise<AdapterTier> {
  return new AdapterTier({
    budget,
    disk: await openDiskCache(folder, diskLimit),
    engine: {
      async load(digest) {
        resident.add(digest);
      },
      async unload(digest) {
        resident.delete(digest);
      },
    },
    objects: {
      async get(key) {
        fetched.push(key);
        const bytes = objects.get(key);
        if (!bytes) throw new Failure({ kind: 'not_found', message: key, code: 'not_found' });
        return bytes;
      },
      put: async () => {},
    },
  });
}

const of = (...indices: number[]) => indices.map((i) => digests[i]!);

test('twenty requests for one adapter fetch it once', async () => {
  const t = await tier(1000);
  const releases = await Promise.all(Array.from({ length: 20 }, () => t.acquire(of(0))));
  for (const release of releases) release();
  assert.deepEqual(fetched, [sealedKey(digests[0]!)]);
});

test('the least recently used unpinned adapter leaves, and comes back from disk', async () => {
  const t = await tier(200);
  const keep = await t.acquire(of(0));
  (await t.acquire(of(1)))();
  (await t.acquire(of(2)))();
  assert.deepEqual([...resident].sort(), of(0, 2).sort());
  keep();
  fetched = [];
  (await t.acquire(of(1)))();
  assert.deepEqual(fetched, []);
  assert.deepEqual([...resident].sort(), of(1, 2).sort());
});

test('a load waits for room that running requests hold', async () => {
  const t = await tier(200);
  const first = await t.acquire(of(0, 1));
  const second = t.acquire(of(2, 3));
  assert.equal(await Promise.race([second.then(() => 'loaded'), new Promise((r) => setTimeout(r, 50, 'waits'))]), 'waits');
  first();
  (await second)();
  assert.deepEqual([...resident].sort(), of(2, 3).sort());
});

test('eight adapters through a budget of two, concurrently, all get their turn', async () => {
  const t = await tier(200);
  await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const wanted = of(i % 6);
      const release = await t.acquire(wanted);
      assert.ok(resident.has(wanted[0]!));
      await new Promise((r) => setTimeout(r, 1));
      assert.ok(resident.has(wanted[0]!), 'it left while it was pinned');
      release();
    }),
  );
  assert.ok(resident.size <= 2);
});

test('damaged files on disk are fetched anew; objects that are not their digest are refused', async () => {
  await writeFile(join(folder, digests[0]!), 'damaged');
  (await (await tier(1000)).acquire(of(0)))();
  assert.equal(fetched.length, 1);

  objects.set(sealedKey(digests[1]!), adapters[2]!);
  const t = await tier(1000);
  await assert.rejects(t.acquire(of(1)), /the stored object has SHA-256/);
  // The failure is not remembered.
  objects.set(sealedKey(digests[1]!), adapters[1]!);
  (await t.acquire(of(1)))();
});

test('the disk cache keeps to its limit and forgets the oldest', async () => {
  const t = await tier(1000, 250);
  for (const i of [0, 1, 2]) (await t.acquire(of(i)))();
  assert.deepEqual((await readdir(folder)).sort(), of(1, 2).sort());
});
