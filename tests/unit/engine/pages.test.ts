/** The page pool against a plain account of who holds what, and the names under which content is found again. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PAGE_TOKENS, PagePool, pagesFor } from '../../../gpu-worker/engine/pages.ts';
import { findPrefix, PageKeys, scopeOf } from '../../../gpu-worker/engine/prefix-cache.ts';

test('any course of takes, releases and publications keeps the account', () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('take' as const) }),
    fc.record({ do: fc.constant('retain' as const), which: fc.nat() }),
    fc.record({ do: fc.constant('release' as const), which: fc.nat() }),
    fc.record({ do: fc.constant('publish' as const), which: fc.nat(), key: fc.nat(12) }),
    fc.record({ do: fc.constant('find' as const), key: fc.nat(12) }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), fc.array(action, { maxLength: 80 }), (total, actions) => {
      const pool = new PagePool(total);
      /** One entry for each holder. */
      const held: number[] = [];
      const published = new Map<string, number>();
      const heldPages = () => new Set(held);
      for (const a of actions) {
        switch (a.do) {
          case 'take': {
            const page = pool.take();
            assert.equal(page === undefined, heldPages().size === total, 'a page is refused only when all are held');
            if (page === undefined) break;
            assert.ok(!heldPages().has(page), 'nobody loses a page that he holds');
            for (const [key, at] of published) if (at === page) published.delete(key);
            held.push(page);
            break;
          }
          case 'retain':
            if (held.length === 0) break;
            pool.retain(held[a.which % held.length]!);
            held.push(held[a.which % held.length]!);
            break;
          case 'release':
            if (held.length === 0) break;
            pool.release(held.splice(a.which % held.length, 1)[0]!);
            break;
          case 'publish': {
            if (held.length === 0) break;
            const page = held[a.which % held.length]!;
            pool.publish(page, `key ${a.key}`);
            if (!published.has(`key ${a.key}`) && ![...published.values()].includes(page)) published.set(`key ${a.key}`, page);
            break;
          }
          case 'find': {
            const page = pool.find(`key ${a.key}`);
            assert.equal(page, published.get(`key ${a.key}`));
            if (page === undefined) break;
            pool.retain(page);
            held.push(page);
            break;
          }
          default:
            a satisfies never;
        }
        assert.equal(pool.held, heldPages().size);
        assert.equal(pool.idle, [...published.values()].filter((page) => !heldPages().has(page)).length);
        assert.equal(pool.available, total - heldPages().size);
      }
    }),
    { numRuns: 500 },
  );
});

test('idle content goes only when nothing is free, the one idle for longest first', () => {
  const pool = new PagePool(3);
  const [a, b, c] = [pool.take()!, pool.take()!, pool.take()!];
  pool.publish(a, 'a');
  pool.publish(b, 'b');
  for (const page of [b, c, a]) pool.release(page);
  assert.equal(pool.take(), c, 'the free one');
  assert.equal(pool.take(), b, 'idle before a');
  assert.deepEqual([pool.find('a'), pool.find('b')], [a, undefined]);
  pool.retain(a);
  assert.equal(pool.take(), undefined);
  assert.throws(() => {
    pool.release(a);
    pool.release(a);
  }, /nobody holds it/);
});

const REVISION = 'ab'.repeat(32);
const request = (tenant: string, adapters: { digest: string; weight: number }[] = []) => ({
  account: { tenant, keyId: 'key', model: 'm', fromBatch: false },
  adapters,
});
const scope = (tenant: string, adapters?: { digest: string; weight: number }[]) => scopeOf(request(tenant, adapters), REVISION, 'int8');

describe('names of content', () => {
  const tokens = Array.from({ length: 3 * PAGE_TOKENS }, (_, i) => i);
  const keys = (of: readonly number[], where = scope('ten_a')) => new PageKeys(where, of);

  test('a name depends on every token before the page ends, and on none after it', () => {
    const longer = keys([...tokens, 7]);
    assert.deepEqual([longer.at(0), longer.at(1)], [keys(tokens).at(0), keys(tokens).at(1)]);
    for (const place of [0, PAGE_TOKENS - 1, PAGE_TOKENS, 2 * PAGE_TOKENS - 1]) {
      const other = keys(tokens.with(place, 999));
      assert.notEqual(other.at(1), longer.at(1));
      assert.equal(other.at(0) === longer.at(0), place >= PAGE_TOKENS);
    }
    assert.notEqual(keys([...tokens.slice(32, 64), ...tokens.slice(0, 32)]).at(1), longer.at(1));
    assert.throws(() => longer.at(3), /not full/);
  });

  test('tokens that grow later are named then', () => {
    const growing = tokens.slice(0, 40);
    const names = keys(growing);
    assert.throws(() => names.at(1), /not full/);
    growing.push(...tokens.slice(40));
    assert.equal(names.at(2), keys(tokens).at(2));
  });

  test('tenants, adapters, their weights and order, base and precision never share one', () => {
    const [x, y] = ['cd'.repeat(32), 'ef'.repeat(32)];
    const scopes = [
      scope('ten_a'),
      scope('ten_b'),
      scope('ten_a', [{ digest: x, weight: 1 }]),
      scope('ten_a', [{ digest: y, weight: 1 }]),
      scope('ten_a', [{ digest: x, weight: 0.5 }]),
      scope('ten_a', [
        { digest: x, weight: 1 },
        { digest: y, weight: 1 },
      ]),
      scope('ten_a', [
        { digest: y, weight: 1 },
        { digest: x, weight: 1 },
      ]),
      scopeOf(request('ten_a'), 'cd'.repeat(32), 'int8'),
      scopeOf(request('ten_a'), REVISION, 'fp32'),
    ];
    assert.equal(new Set(scopes.map((s) => keys(tokens, s).at(0))).size, scopes.length);
    assert.equal(scope('ten_a'), scope('ten_a'));
  });

  test('a prefix is found up to its first missing page', () => {
    const pool = new PagePool(4);
    const names = keys(tokens);
    const pages = [0, 1, 2].map(() => pool.take()!);
    for (const [i, page] of pages.entries()) if (i !== 1) pool.publish(page, names.at(i));
    assert.deepEqual(findPrefix(pool, names, 3), [pages[0]]);
    pool.publish(pages[1]!, names.at(1));
    assert.deepEqual(findPrefix(pool, names, 3), pages);
    assert.deepEqual(findPrefix(pool, names, 2), pages.slice(0, 2));
    assert.deepEqual(findPrefix(pool, keys(tokens, scope('ten_b')), 3), []);
  });
});

test('pages for a number of tokens', () => {
  assert.deepEqual([0, 1, 32, 33, 64].map(pagesFor), [0, 1, 1, 2, 2]);
});
