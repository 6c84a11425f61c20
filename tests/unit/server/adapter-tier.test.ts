/** Adapters are loaded once however many ask, stay while in use or pinned, and nobody waits in a circle. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { AdapterTier } from '../../../gpu-worker/server/adapter-tier.ts';
import { Failure } from '../../../shared/errors.ts';

const BYTES = 100;
let loads: string[];
let sizes: Map<string, number>;
let resident: Set<string>;
let counts: { hits: number; misses: number; evictions: number };
/** Milliseconds that a load takes. */
let latency: number;
let broken: Set<string>;

beforeEach(() => {
  loads = [];
  sizes = new Map();
  resident = new Set();
  counts = { hits: 0, misses: 0, evictions: 0 };
  latency = 0;
  broken = new Set();
});

async function acquire(t: AdapterTier, digests: string[]): Promise<() => void> {
  return (await t.acquire(digests, new AbortController().signal)) ?? assert.fail('nobody left');
}

function tier(budget: number): AdapterTier {
  return new AdapterTier({
    budget,
    images: {
      async load(digest) {
        loads.push(digest);
        await sleep(latency);
        if (broken.has(digest)) throw new Failure({ kind: 'not_found', message: digest, code: 'not_found' });
        return { image: new ArrayBuffer(sizes.get(digest) ?? BYTES), source: 'disk' };
      },
    },
    engine: {
      async load(digest, image) {
        assert.ok(!resident.has(digest), `${digest} is resident already`);
        resident.add(digest);
        const bytes = [...resident].reduce((sum, each) => sum + (sizes.get(each) ?? BYTES), 0);
        assert.ok(bytes <= budget, `${bytes} bytes are resident, of ${budget}`);
        assert.equal(image.byteLength, sizes.get(digest) ?? BYTES);
      },
      async unload(digest) {
        assert.ok(resident.delete(digest), `${digest} was not resident`);
      },
    },
    observer: {
      asked: (_digest, isHit) => void (isHit ? counts.hits++ : counts.misses++),
      loaded: () => undefined,
      evicted: () => void counts.evictions++,
    },
  });
}

test('twenty requests for one adapter load it once; later ones find it', async () => {
  const t = tier(1000);
  const releases = await Promise.all(Array.from({ length: 20 }, () => acquire(t, ['a'])));
  for (const release of releases) release();
  (await acquire(t, ['a']))();
  assert.deepEqual(loads, ['a']);
  assert.deepEqual(counts, { hits: 1, misses: 20, evictions: 0 });
});

test('what is used often stays; what was used once leaves', async () => {
  const t = tier(200);
  for (let i = 0; i < 3; i++) (await acquire(t, ['often']))();
  for (const once of ['b', 'c', 'd']) (await acquire(t, [once]))();
  assert.ok(resident.has('often'));
  assert.equal(counts.evictions, 2);
});

test('a load waits for room that running requests hold', async () => {
  const t = tier(200);
  const first = await acquire(t, ['a', 'b']);
  const second = acquire(t, ['c', 'd']);
  assert.equal(await Promise.race([second.then(() => 'loaded'), sleep(30, 'waits')]), 'waits');
  assert.deepEqual([...resident], ['a', 'b'], 'in use: neither may leave');
  first();
  first();
  (await second)();
  assert.deepEqual([...resident].sort(), ['c', 'd']);
});

test('two mixtures that each hold half of what the other needs do not wait for each other', async () => {
  const t = tier(200);
  (await acquire(t, ['a', 'b']))();
  const done = await Promise.all(
    [
      ['a', 'c'],
      ['b', 'd'],
      ['c', 'b'],
      ['d', 'a'],
    ].map(async (pair) => {
      const release = await acquire(t, pair);
      await sleep(1);
      assert.ok(pair.every((digest) => resident.has(digest)));
      release();
    }),
  );
  assert.equal(done.length, 4);
});

test('a wide adapter gets room bit by bit while narrow ones keep coming', async () => {
  const t = tier(500);
  sizes.set('wide', 450);
  let stop = false;
  const narrow = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(async (digest) => {
    while (!stop) {
      const release = await acquire(t, [digest]);
      await sleep(2);
      release();
    }
  });
  await sleep(10);
  (await acquire(t, ['wide']))();
  stop = true;
  await Promise.all(narrow);
});

test('what can never fit is refused, with the reason', async () => {
  const t = tier(250);
  sizes.set('huge', 251);
  const isRefusal = (error: unknown) => error instanceof Failure && error.value.kind === 'invalid_request';
  await assert.rejects(acquire(t, ['huge']), isRefusal);
  await assert.rejects(acquire(t, ['a', 'b', 'c']), isRefusal);
  (await acquire(t, ['a', 'b']))();
});

test('pinned adapters are loaded ahead and never leave, up to half of the memory', async () => {
  const t = tier(400);
  t.pin(new Set(['p', 'q', 'r']));
  await sleep(5);
  for (const other of ['a', 'b', 'c', 'd', 'e']) (await acquire(t, [other]))();
  assert.ok(resident.has('p') && resident.has('q'));
  assert.ok(!resident.has('r'), 'a third is treated like any other');
  assert.equal(t.state.pinned, 2);
  t.pin(new Set());
  for (const other of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) (await acquire(t, [other]))();
  assert.ok(!resident.has('p'));
});

test('a load that is waited for overtakes those that are only expected', async () => {
  latency = 5;
  const t = tier(10_000);
  const expected = Array.from({ length: 10 }, (_, i) => `expected-${i}`);
  t.prefetch(expected);
  const [now, soon] = [acquire(t, ['now']), acquire(t, ['expected-9'])];
  await Promise.all([now, soon]);
  assert.deepEqual(loads.slice(4, 6), ['now', 'expected-9']);
  await acquire(t, expected);
  assert.equal(new Set(loads).size, loads.length);
});

test('a failed load reaches those who wait for it, and is not remembered', async () => {
  const t = tier(1000);
  broken.add('a');
  const outcomes = await Promise.allSettled([acquire(t, ['a']), acquire(t, ['b', 'a']), acquire(t, ['b'])]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled'],
  );
  broken.clear();
  (await acquire(t, ['a', 'b']))();
});

test('a client that leaves waits no longer, and others get what it was first to wait for', async () => {
  const t = tier(200);
  const release = await acquire(t, ['a', 'b']);
  const leaving = new AbortController();
  const first = t.acquire(['c', 'd'], leaving.signal);
  const second = acquire(t, ['a', 'e']);
  await sleep(5);
  leaving.abort();
  assert.equal(await first, null);
  release();
  (await second)();
  assert.equal(await t.acquire(['f'], leaving.signal), null);
  assert.ok(!loads.includes('f'));
  assert.equal(t.state.waiting, 0);
});

test('more waiting requests than may wait are refused at once', async () => {
  latency = 20;
  const t = tier(1000);
  const waiting = Array.from({ length: 512 }, () => acquire(t, ['a']));
  await assert.rejects(acquire(t, ['b']), (error: unknown) => error instanceof Failure && error.value.kind === 'rate_limited');
  for (const release of await Promise.all(waiting)) release();
});

test('any mix of requests comes to its end, and nothing in use ever leaves', async () => {
  const request = fc.record({
    digests: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), { minLength: 1, maxLength: 3 }),
    at: fc.nat(6),
    runs: fc.nat(4),
    prefetched: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 24 }),
      fc.array(fc.integer({ min: 1, max: 3 })),
      async (requests, wide) => {
        loads = [];
        resident = new Set();
        sizes = new Map(wide.slice(0, 6).map((times, i) => ['abcdef'[i]!, times * BYTES]));
        latency = 1;
        const t = tier(900);
        await Promise.all(
          requests.map(async ({ digests, at, runs, prefetched }) => {
            await sleep(at);
            if (prefetched) t.prefetch(digests);
            const release = await acquire(t, digests);
            for (let i = 0; i <= runs; i++) {
              assert.ok(digests.every((digest) => resident.has(digest)));
              await sleep(1);
            }
            release();
          }),
        );
        assert.equal(t.state.waiting, 0);
      },
    ),
    { numRuns: 40 },
  );
});
