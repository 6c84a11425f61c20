/** Placement: sticky, spread, bounded by load, and little disturbed when the fleet changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type LiveWorker, order } from '../../../functions/upstream/placement.ts';
import { BASE, sha256 } from '../../workerd/support/peer.ts';

const worker = (name: string, active = 0, bases = [BASE]): LiveWorker => ({
  worker: name,
  url: '',
  bases,
  slots: 8,
  active,
  queued: 0,
  seenAt: 0,
});
const names = (workers: LiveWorker[], digest: string | null = null) => order(workers, BASE.revision, digest).map((w) => w.worker);
const digests = Array.from({ length: 400 }, (_, i) => sha256(`adapter ${i}`));

test('the order depends on the adapter, not on the order of the fleet', () => {
  const fleet = ['a', 'b', 'c', 'd'].map((n) => worker(n));
  assert.deepEqual(names(fleet, digests[0]), names([...fleet].reverse(), digests[0]));
  const firsts = digests.map((d) => names(fleet, d)[0]!);
  for (const name of ['a', 'b', 'c', 'd']) {
    const share = firsts.filter((f) => f === name).length;
    assert.ok(share > 60 && share < 140, `${name} got ${share} of 400`);
  }
});

test('when a worker leaves only its own adapters move', () => {
  const fleet = ['a', 'b', 'c', 'd'].map((n) => worker(n));
  for (const digest of digests) {
    const [before, after] = [names(fleet, digest), names(fleet.slice(0, 3), digest)];
    assert.deepEqual(
      after,
      before.filter((n) => n !== 'd'),
    );
  }
});

test('a worker much busier than the mean comes last, the least busy of such first', () => {
  const fleet = [worker('a', 40), worker('b', 30), worker('c', 1), worker('d', 0), worker('e', 0), worker('f', 0)];
  for (const digest of digests.slice(0, 50)) assert.deepEqual(names(fleet, digest).slice(-2), ['b', 'a']);
});

test('below one request a slot nobody is passed over', () => {
  const digest = digests[1]!;
  const calm = ['a', 'b'].map((n) => worker(n));
  const favourite = names(calm, digest)[0]!;
  assert.deepEqual(
    names(
      calm.map((w) => worker(w.worker, w.worker === favourite ? 8 : 0)),
      digest,
    )[0],
    favourite,
  );
});

test('only workers that serve the revision take part', () => {
  const other = { ...BASE, revision: sha256('other') };
  assert.deepEqual(names([worker('a', 0, [other]), worker('b', 0, [other, BASE])]), ['b']);
  assert.deepEqual(names([]), []);
});
