/** Who is admitted and who gives way, on a clock that the tests turn. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Random } from '../../../gpu-worker/engine/sampling/random.ts';
import { BATCH_PATIENCE_MS, type Schedulable, Scheduler, TENANT_PATIENCE_MS } from '../../../gpu-worker/engine/scheduler.ts';
import { COST } from '../../../gpu-worker/engine/tenants.ts';

interface Item extends Schedulable {
  name: string;
  /** Tokens still to generate. */
  left: number;
}

let names = 0;
function item(tenant: string, more: Partial<Item> = {}): Item {
  return { tenant, weight: 1, priority: 'interactive', arrived: 0, name: `${tenant}${names++}`, left: 10, ...more };
}
const any = () => true;

/** Admits up to `rows`, gives every running sequence a token; returns tokens by tenant. */
function serve(scheduler: Scheduler<Item>, rows: number, steps: number, now: () => number, refill: (ended: Item) => void = () => {}) {
  const served = new Map<string, number>();
  for (let step = 0; step < steps; step++) {
    for (;;) {
      const next = scheduler.next(now(), any);
      if (!next) break;
      if (scheduler.running.size >= rows) {
        const out = scheduler.replaceable(next, now());
        if (!out) break;
        scheduler.yield(out, now());
      }
      scheduler.start(next, now());
    }
    assert.ok(scheduler.running.size === rows || !scheduler.next(now(), any), 'no row stays free while something waits');
    for (const running of [...scheduler.running]) {
      scheduler.tenants.charge(running.tenant, COST.generated);
      served.set(running.tenant, (served.get(running.tenant) ?? 0) + 1);
      if (--running.left > 0) continue;
      scheduler.end(running, now());
      refill(running);
    }
  }
  return served;
}

const jain = (values: number[]) => values.reduce((a, b) => a + b, 0) ** 2 / (values.length * values.reduce((a, b) => a + b * b, 0));

describe('between tenants', () => {
  test('one that sends ten times as much gets no more than the others', () => {
    const scheduler = new Scheduler<Item>();
    const random = new Random(5, 0);
    const again = (ended: Item) => scheduler.add(item(ended.tenant, { left: 4 + Math.floor(random.next() * 40) }));
    for (let i = 0; i < 200; i++) again(item('heavy'));
    for (const tenant of ['a', 'b', 'c', 'd']) for (let i = 0; i < 20; i++) again(item(tenant));
    const served = serve(scheduler, 16, 2000, () => 0, again);
    assert.ok(jain([...served.values()]) > 0.99, JSON.stringify([...served]));
  });

  test('shares follow weights', () => {
    const scheduler = new Scheduler<Item>();
    const again = ({ tenant, weight }: Item) => scheduler.add(item(tenant, { weight, left: 8 }));
    for (let i = 0; i < 40; i++) for (const weight of [1, 3]) again(item(`w${weight}`, { weight }));
    const served = serve(scheduler, 8, 3000, () => 0, again);
    const ratio = served.get('w3')! / served.get('w1')!;
    assert.ok(Math.abs(ratio - 3) < 0.2, `${ratio}`);
  });

  test('one that returns has saved nothing up, and has shed nothing by leaving', () => {
    const scheduler = new Scheduler<Item>();
    const { tenants } = scheduler;
    tenants.enter('worker', 1);
    tenants.enter('idler', 1);
    tenants.leave('idler');
    tenants.charge('worker', 1000);
    tenants.enter('idler', 1);
    assert.equal(tenants.served('idler'), 1000);
    tenants.charge('idler', 500);
    tenants.leave('idler');
    tenants.charge('worker', 100);
    tenants.enter('idler', 1);
    assert.equal(tenants.served('idler'), 1500);
  });

  test('one without a row takes one from him who has several, after a wait', () => {
    const scheduler = new Scheduler<Item>();
    const heavy = [item('heavy'), item('heavy'), item('heavy')];
    for (const h of heavy) {
      scheduler.add(h);
      scheduler.start(h, 0);
      scheduler.tenants.charge('heavy', 100);
    }
    const light = item('light', { arrived: 10 });
    scheduler.add(light);
    // It starts level with those present: only what happens from now on counts.
    assert.equal(scheduler.replaceable(light, 10 + TENANT_PATIENCE_MS), null);
    scheduler.tenants.charge('heavy', 1);
    assert.equal(scheduler.replaceable(light, 9 + TENANT_PATIENCE_MS), null);
    assert.equal(scheduler.replaceable(light, 10 + TENANT_PATIENCE_MS), heavy[2]);
    scheduler.yield(heavy[2]!, 2000);
    scheduler.start(light, 2000);
    assert.equal(scheduler.next(5000, any), heavy[2], 'it comes next of its tenant');
    assert.equal(scheduler.replaceable(heavy[2]!, 5000), null, 'a tenant that has rows takes none');
    const third = item('third', { arrived: 2000 });
    scheduler.add(third);
    scheduler.tenants.charge('light', 1000);
    assert.equal(scheduler.replaceable(third, 9000), heavy[1], 'the only row of a tenant is not taken');
  });
});

describe('between priorities', () => {
  test('interactive comes first whatever it was served, and takes rows from batch', () => {
    const scheduler = new Scheduler<Item>();
    const batch = [item('b', { priority: 'batch' }), item('b', { priority: 'batch' })];
    for (const b of batch) {
      scheduler.add(b);
      scheduler.start(b, 0);
    }
    const interactive = item('i');
    scheduler.add(interactive);
    scheduler.tenants.charge('i', 1e6);
    scheduler.add(item('c', { priority: 'batch' }));
    assert.equal(scheduler.next(0, any), interactive);
    assert.equal(scheduler.replaceable(interactive, 0), batch[1], 'the last admitted');
    assert.equal(scheduler.victim(), batch[1]);
  });

  test('batch is never starved for ever: it gets one row after a wait, and keeps it', () => {
    const scheduler = new Scheduler<Item>();
    let now = 0;
    const again = (ended: Item) => scheduler.add(item(ended.tenant, { priority: ended.priority, arrived: now, left: 20 }));
    for (let i = 0; i < 50; i++) again(item('i'));
    for (let i = 0; i < 50; i++) again(item('b', { priority: 'batch' }));
    const tick = () => {
      now += 0.5;
      return now;
    };
    const served = serve(scheduler, 4, 30_000, tick, again);
    const share = served.get('b')! / (served.get('b')! + served.get('i')!);
    assert.ok(share > 0 && share < 0.05, `${share}`);
    assert.ok(served.get('b')! >= 20 * Math.floor((now / (BATCH_PATIENCE_MS + 20 * 5)) * 0.9), `${served.get('b')}`);
  });
});

test('what is not ready is passed over, what is ready keeps its order', () => {
  const scheduler = new Scheduler<Item>();
  const [a, b, c] = [item('t'), item('t'), item('t')];
  for (const i of [a, b, c]) scheduler.add(i);
  assert.equal(
    scheduler.next(0, (i) => i !== a),
    b,
  );
  scheduler.start(b, 0);
  assert.equal(scheduler.next(0, any), a);
  scheduler.end(a, 0);
  assert.equal(scheduler.next(0, any), c);
  scheduler.end(c, 0);
  assert.equal(scheduler.next(0, any), null);
  assert.deepEqual([scheduler.waiting('interactive'), [...scheduler.running]], [0, [b]]);
});

test('in any course, everything added is started and ended, and the victim never has more right than another', () => {
  const arrival = fc.record({
    tenant: fc.constantFrom('a', 'b', 'c'),
    weight: fc.constantFrom(1, 2),
    priority: fc.constantFrom('interactive' as const, 'batch' as const),
    left: fc.integer({ min: 1, max: 12 }),
    at: fc.nat(40),
  });
  fc.assert(
    fc.property(fc.array(arrival, { maxLength: 30 }), fc.integer({ min: 1, max: 4 }), (arrivals, rows) => {
      const scheduler = new Scheduler<Item>();
      let ended = 0;
      for (let now = 0; now < 1000 && ended < arrivals.length; now++) {
        for (const a of arrivals) if (a.at === now) scheduler.add(item(a.tenant, { ...a, arrived: now }));
        serve(
          scheduler,
          rows,
          1,
          () => now,
          () => ended++,
        );
        assert.ok(scheduler.running.size <= rows);
        const batch = [...scheduler.running].some(({ priority }) => priority === 'batch');
        if (batch) assert.equal(scheduler.victim().priority, 'batch');
        const waiting = [...scheduler.allWaiting()];
        assert.equal(waiting.length, scheduler.waiting('interactive') + scheduler.waiting('batch'));
      }
      assert.equal(ended, arrivals.length);
    }),
    { numRuns: 200 },
  );
});
