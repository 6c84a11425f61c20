/** Which adapters have metrics of their own: few, the most used, and not for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TopAdapters } from '../../../gpu-worker/server/top-adapters.ts';

const HOUR = 3_600_000;

test('the first ones are named; later ones when they are clearly more used', () => {
  const top = new TopAdapters(2);
  for (const digest of ['a', 'b', 'b']) assert.deepEqual(top.use(digest, 0), { isNamed: true, dropped: null });
  assert.deepEqual(top.use('c', 0), { isNamed: false, dropped: null });
  assert.deepEqual(top.use('c', 0), { isNamed: true, dropped: 'a' });
  assert.deepEqual(top.use('a', 0), { isNamed: false, dropped: null });
  assert.deepEqual(top.use('c', 0), { isNamed: true, dropped: null });
});

test('former popularity fades', () => {
  const top = new TopAdapters(1);
  for (let i = 0; i < 100; i++) top.use('former', 0);
  assert.equal(top.use('new', HOUR).isNamed, false);
  assert.equal(top.use('newer', 10 * HOUR).dropped, 'former');
});

test('however many adapters there are, no more are named than may be', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(60), { maxLength: 400 }), (uses) => {
      const top = new TopAdapters(5);
      const named = new Set<string>();
      for (const [at, use] of uses.entries()) {
        const { isNamed, dropped } = top.use(String(use), at * 60_000);
        if (dropped !== null) assert.ok(named.delete(dropped));
        if (isNamed) named.add(String(use));
        assert.equal(named.has(String(use)), isNamed);
        assert.ok(named.size <= 5);
      }
    }),
  );
});
