/** Compilations take turns by tenant, and one tenant's queue is bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Turns } from '../../../../gpu-worker/engine/grammar/turns.ts';
import { Failure } from '../../../../shared/errors.ts';

test('one at a time, tenants in turn, in order for each', async () => {
  const turns = new Turns(10);
  const order: string[] = [];
  let running = 0;
  const work = (name: string) => async () => {
    assert.equal(++running, 1);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    order.push(name);
  };
  await Promise.all(['a1', 'a2', 'a3', 'b1', 'b2', 'c1'].map((name) => turns.take(name[0]!, work(name))));
  assert.deepEqual(
    order,
    ['a1', 'a2', 'b1', 'c1', 'a3', 'b2'].sort((x, y) => order.indexOf(x) - order.indexOf(y)),
  );
  // Nobody's second comes before another's first that waited as long.
  assert.ok(order.indexOf('b1') < order.indexOf('a3') && order.indexOf('c1') < order.indexOf('a3'));
  assert.ok(order.indexOf('c1') < order.indexOf('b2'));
});

test('what fails is told to its own caller; the next goes on', async () => {
  const turns = new Turns(10);
  const failed = turns.take('a', () => Promise.reject(new Error('no')));
  const fine = turns.take('a', () => Promise.resolve());
  await assert.rejects(failed, /no/);
  await fine;
  await turns.take('b', () => Promise.resolve());
});

test('beyond its share a tenant is refused, others are not', async () => {
  const turns = new Turns(2);
  const gate = Promise.withResolvers<void>();
  const taken = [turns.take('a', () => gate.promise), turns.take('a', () => gate.promise), turns.take('a', () => gate.promise)];
  await assert.rejects(
    turns.take('a', () => gate.promise),
    (error: unknown) => error instanceof Failure && error.value.kind === 'rate_limited',
  );
  taken.push(turns.take('b', () => gate.promise));
  gate.resolve();
  await Promise.all(taken);
});
