/** How a bounded queue is shared out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { QueueLimits } from '../../../gpu-worker/engine/queue-limits.ts';
import { Failure } from '../../../shared/errors.ts';

const kindOf = (act: () => void): string => {
  try {
    act();
    return 'taken';
  } catch (error) {
    assert.ok(error instanceof Failure);
    return error.value.kind;
  }
};

test('one tenant gets rows and queue, and others still find places', () => {
  const limits = new QueueLimits(4, 6);
  assert.equal(
    kindOf(() => limits.take('a', 11)),
    'invalid_request',
  );
  assert.equal(
    kindOf(() => limits.take('a', 10)),
    'taken',
  );
  assert.equal(
    kindOf(() => limits.take('a', 1)),
    'rate_limited',
  );
  assert.equal(
    kindOf(() => limits.take('b', 5)),
    'taken',
  );
  assert.equal(
    kindOf(() => limits.take('b', 1)),
    'rate_limited',
  );
  assert.equal(
    kindOf(() => limits.take('c', 2)),
    'taken',
  );
  limits.giveBack('a', 10);
  assert.equal(
    kindOf(() => limits.take('b', 1)),
    'taken',
  );
  assert.equal(
    kindOf(() => limits.take('a', 6)),
    'taken',
  );
});

test('whatever others hold, a newcomer gets a place as long as two are free, and the bound is never passed', () => {
  const action = fc.record({ tenant: fc.constantFrom('a', 'b', 'c', 'd'), sequences: fc.integer({ min: 1, max: 8 }), gives: fc.boolean() });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.array(action, { maxLength: 60 }), (half, actions) => {
      const limits = new QueueLimits(half, 0);
      const held: { tenant: string; sequences: number }[] = [];
      const total = () => held.reduce((sum, { sequences }) => sum + sequences, 0);
      for (const { tenant, sequences, gives } of actions) {
        if (gives && held.length > 0) {
          const back = held.shift()!;
          limits.giveBack(back.tenant, back.sequences);
        } else if (kindOf(() => limits.take(tenant, sequences)) === 'taken') held.push({ tenant, sequences });
        assert.ok(total() <= 2 * half);
      }
      if (2 * half - total() < 2) return;
      assert.equal(
        kindOf(() => limits.take('newcomer', 1)),
        'taken',
      );
    }),
  );
});
