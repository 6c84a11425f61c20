/** The step itself, one at a time: admission under a small memory for adapters, places after departures, cancellation. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AdapterSlots, adapterSlotBytes, type ServedAdapter } from '../../../gpu-worker/engine/adapter-slots.ts';
import { EngineCore } from '../../../gpu-worker/engine/core.ts';
import { Executor } from '../../../gpu-worker/engine/executor.ts';
import { UsageJournal } from '../../../gpu-worker/engine/journal.ts';
import { KvCache } from '../../../gpu-worker/engine/kv-cache.ts';
import { precisionOf } from '../../../gpu-worker/models/precisions.ts';
import { prepareModel } from '../../../gpu-worker/models/prepare.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import type { EngineEvent, EngineRequest } from '../../../shared/contract/engine.ts';
import { LLAMA } from '../../unit/source/fixtures.ts';
import { randomAdapter, requestOf } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-core-'));
const checkpoint = await openCheckpoint(LLAMA);
const model = prepareModel(checkpoint, precisionOf('int8'), folder);
const SLOTS = 8;
const kv = new KvCache(checkpoint.config, SLOTS, 128);
const executor = new Executor(model, kv, 1);
after(() => {
  executor[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const digest = (name: string) => name.repeat(64).slice(0, 64);
const ADAPTERS: Record<string, ServedAdapter> = {
  a: randomAdapter(model.linears, 4, 1),
  b: randomAdapter(model.linears, 8, 2),
  c: randomAdapter(model.linears, 64, 3),
};

/** A core whose adapters may fill `wideSlots` slots of rank 64. */
function make(wideSlots: number) {
  const events = new Map<string, EngineEvent[]>();
  const journal = new UsageJournal(join(folder, `usage-${Math.random()}.jsonl`));
  const core = new EngineCore({
    executor,
    kv,
    adapterSlots: new AdapterSlots(model.linears),
    prefillSlot: new AdapterSlots(model.linears),
    linears: model.linears,
    adapterBudget: adapterSlotBytes(model.linears, 64) * wideSlots,
    tokenizer: null,
    eos: new Set(),
    journal,
    baseRevision: checkpoint.revision,
    emit: (batches) => {
      for (const [id, more] of batches) events.set(id, [...(events.get(id) ?? []), ...more]);
    },
  });
  for (const [name, adapter] of Object.entries(ADAPTERS)) core.addAdapter(digest(name), adapter);
  const finish = () => {
    while (!core.idle) core.step();
  };
  const ids = (request: EngineRequest) => (events.get(request.id) ?? []).flatMap((e) => (e.type === 'tokens' ? e.ids : []));
  return { core, events, finish, ids };
}

const PROMPT = [93, 50, 150, 199, 262, 200, 63];
const ask = (name: string | null, maxTokens: number) =>
  requestOf([PROMPT], { maxTokens, adapters: name === null ? [] : [{ digest: digest(name), weight: 1 }] });

/** What a request gives on a core of its own. */
function alone(name: string | null, maxTokens: number): number[] {
  const { core, finish, ids } = make(SLOTS);
  const request = ask(name, maxTokens);
  core.submit(request);
  finish();
  return ids(request);
}

test('when a wide adapter has left its layout to narrow ones and bare requests, each still gets its own', () => {
  const { core, finish, ids } = make(2);
  const wide = ask('c', 3);
  const narrow = ask('a', 40);
  core.submit(wide);
  core.submit(narrow);
  for (let i = 0; i < 6; i++) core.step();
  assert.equal(ids(wide).length, 3, 'the wide one has finished, the narrow one runs in its layout');
  const others = ['b', null, 'a', 'b', null, 'a'].map((name) => ({ name, request: ask(name, 20) }));
  for (const { request } of others) core.submit(request);
  finish();
  assert.deepEqual(ids(narrow), alone('a', 40));
  for (const { name, request } of others) assert.deepEqual(ids(request), alone(name, 20), `adapter ${name}`);
});

test('a wide adapter that has left holds nobody up: narrow ones get all slots while some of them still run', () => {
  const { core, finish, ids } = make(2);
  core.submit(ask('c', 3));
  const narrow = Array.from({ length: SLOTS - 1 }, () => ask('a', 40));
  for (const request of [...narrow, ask(null, 40)]) core.submit(request);
  for (let i = 0; i < SLOTS + 6; i++) core.step();
  assert.deepEqual([core.active, core.queued], [SLOTS, 0]);
  finish();
  for (const request of narrow) assert.deepEqual(ids(request), alone('a', 40));
});

test('adapters that do not fit side by side wait', () => {
  const { core, ids } = make(2);
  const requests = Array.from({ length: 5 }, () => ask('c', 6));
  for (const request of requests) core.submit(request);
  let most = 0;
  while (!core.idle) {
    core.step();
    most = Math.max(most, core.active);
  }
  assert.equal(most, 2);
  const expected = alone('c', 6);
  for (const request of requests) assert.deepEqual(ids(request), expected);
});

test('when sequences leave in any order, those that stay keep their cache and their adapters', () => {
  const { core, finish, ids } = make(SLOTS);
  const requests = (
    [
      ['c', 5],
      ['a', 30],
      [null, 9],
      ['b', 22],
      ['a', 3],
      ['c', 30],
      [null, 30],
      ['b', 12],
    ] as const
  ).map(([name, count]) => ({ name, count, request: ask(name, count) }));
  for (const { request } of requests) core.submit(request);
  finish();
  for (const { name, count, request } of requests) assert.deepEqual(ids(request), alone(name, count), `${name}, ${count} tokens`);
});

test('a cancelled request is gone within one step, running or waiting', () => {
  const { core, events, finish } = make(SLOTS);
  const running = Array.from({ length: SLOTS }, () => ask(null, 50));
  const waiting = ask(null, 50);
  for (const request of [...running, waiting]) core.submit(request);
  for (let i = 0; i < SLOTS + 2; i++) core.step();
  assert.deepEqual([core.active, core.queued], [SLOTS, 1]);
  core.cancel(running[3]!.id);
  core.cancel(waiting.id);
  core.step();
  assert.deepEqual([core.active, core.queued], [SLOTS - 1, 0]);
  for (const { id } of [running[3]!, waiting]) {
    assert.deepEqual(
      events
        .get(id)!
        .slice(-2)
        .map((event) => (event.type === 'finish' ? event.reason : event.type === 'done' ? event.outcome : event.type)),
      ['cancelled', 'cancelled'],
    );
  }
  core.cancel('req_of_nobody');
  finish();
});

test('one prompt prefills in a step, while all others decode in it', () => {
  const { core, events } = make(SLOTS);
  const first = ask(null, 50);
  core.submit(first);
  core.step();
  const second = ask(null, 50);
  core.submit(second);
  core.submit(ask(null, 50));
  const before = events.get(first.id)!.length;
  core.step();
  assert.equal(events.get(first.id)!.length, before + 1);
  assert.equal(events.get(second.id)!.length, 1);
  assert.deepEqual([core.active, core.queued], [2, 1]);
});
