/** What leaves a cache first: the large, the cheap to get back, the seldom used, and what was popular long ago. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GreedyDual } from '../../../gpu-worker/adapters/greedy-dual.ts';

/** All in order of leaving. */
function drain(cache: GreedyDual): string[] {
  const order = [];
  for (let victim = cache.evict(); victim !== null; victim = cache.evict()) order.push(victim);
  return order;
}

function filled(entries: Record<string, { bytes?: number; cost?: number; uses?: number }>): GreedyDual {
  const cache = new GreedyDual();
  for (const [key, { bytes = 10, cost = 10, uses = 1 }] of Object.entries(entries)) {
    cache.add(key, bytes, cost);
    for (let i = 0; i < uses; i++) cache.use(key);
  }
  return cache;
}

test('of equals the largest, the cheapest and the least used leave first', () => {
  assert.deepEqual(drain(filled({ small: { bytes: 5 }, large: { bytes: 50 }, middle: {} })), ['large', 'middle', 'small']);
  assert.deepEqual(drain(filled({ dear: { cost: 90 }, cheap: { cost: 1 } })), ['cheap', 'dear']);
  assert.deepEqual(drain(filled({ often: { uses: 9 }, never: { uses: 0 }, once: {} })), ['never', 'once', 'often']);
});

test('popularity fades: what is used no longer leaves in the end, however much it was used', () => {
  const cache = filled({ former: { uses: 20 } });
  let passed = 0;
  for (; cache.has('former') && passed < 100; passed++) {
    const newest = `new-${passed}`;
    cache.add(newest, 10, 10);
    cache.use(newest);
    if (cache.size > 2) cache.evict((key) => key !== newest);
  }
  assert.ok(passed > 5 && passed < 60, `left after ${passed}`);
});

test('nobody leaves who may not; then there is none', () => {
  const cache = filled({ a: {}, b: {} });
  assert.equal(
    cache.evict((key) => key === 'b'),
    'b',
  );
  assert.equal(
    cache.evict(() => false),
    null,
  );
  assert.deepEqual([cache.size, cache.bytes], [1, 10]);
});

test('under Zipf requests it keeps about as much as is possible: the most popular', () => {
  const [keys, room] = [200, 40];
  const cache = new GreedyDual();
  const weights = Array.from({ length: keys }, (_, i) => 1 / (i + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let bound = 0;
  const bounds = weights.map((weight) => {
    bound += weight;
    return bound;
  });
  let state = 1;
  const random = () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  let hits = 0;
  const requests = 20_000;
  for (let i = 0; i < requests; i++) {
    const drawn = random() * total;
    const key = String(bounds.findIndex((bound) => drawn < bound));
    if (cache.has(key)) hits++;
    else {
      while (cache.bytes >= room) cache.evict();
      cache.add(key, 1, 1);
    }
    cache.use(key);
  }
  const best = weights.slice(0, room).reduce((sum, weight) => sum + weight, 0) / total;
  assert.ok(hits / requests > 0.93 * best, `${hits / requests} of ${best}`);
});

test('bytes and size are what the entries are, after anything', () => {
  const change = fc.record({
    key: fc.constantFrom('a', 'b', 'c', 'd'),
    bytes: fc.nat(100),
    kind: fc.constantFrom('add', 'use', 'remove', 'evict'),
  });
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const cache = new GreedyDual();
      const sizes = new Map<string, number>();
      for (const { key, bytes, kind } of changes) {
        if (kind === 'add') {
          cache.add(key, bytes, 1);
          sizes.set(key, bytes);
        } else if (kind === 'use') cache.use(key);
        else if (kind === 'remove') {
          cache.remove(key);
          sizes.delete(key);
        } else {
          const victim = cache.evict();
          assert.equal(victim === null, sizes.size === 0);
          if (victim !== null) assert.ok(sizes.delete(victim));
        }
        assert.equal(cache.size, sizes.size);
        assert.equal(
          cache.bytes,
          [...sizes.values()].reduce((sum, each) => sum + each, 0),
        );
      }
    }),
  );
});
