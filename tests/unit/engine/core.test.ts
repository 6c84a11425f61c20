/**
 * The core over a model of hashes: in any company, cut into any chunks, preempted, resumed, found in the prefix cache
 * and drafted, every request gets what a plain loop over its tokens gives, and is billed for exactly that.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { type CoreParts, EngineCore } from '../../../gpu-worker/engine/core.ts';
import type { Allowed } from '../../../gpu-worker/engine/grammar/mask.ts';
import { UsageJournal } from '../../../gpu-worker/engine/journal.ts';
import { PAGE_TOKENS, PagePool } from '../../../gpu-worker/engine/pages.ts';
import { TokenChooser } from '../../../gpu-worker/engine/sampling/chooser.ts';
import { tokenLogprob } from '../../../gpu-worker/engine/sampling/order.ts';
import { Random } from '../../../gpu-worker/engine/sampling/random.ts';
import { Journal } from '../../../gpu-worker/server/journal.ts';
import type { EngineEvent, EngineRequest } from '../../../shared/contract/engine.ts';
import { newTenantId } from '../../../shared/ids.ts';
import { type RequestOptions, requestOf } from '../../synthetic/engine/requests.ts';
import { HashModel, logitsAfter } from './hash-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-core-'));
after(() => rmSync(folder, { recursive: true }));

const EOS = 3;
const REVISION = 'ab'.repeat(32);
const TENANTS = [newTenantId(), newTenantId(), newTenantId()];
const DIGESTS = ['1', '2'].map((c) => c.repeat(64));
const table = (digest: string) => BigInt(digest[0]!);
let journals = 0;

interface Options {
  rows?: number;
  pages?: number;
  stepMs?: number;
  speculation?: boolean;
  grammars?: CoreParts['grammars'];
}

/** A core on a clock that only its steps and the test move. */
function make({ rows = 4, pages = 64, stepMs = 40, speculation = true, grammars }: Options = {}) {
  const model = new HashModel(pages);
  const pool = new PagePool(pages);
  const journalPath = join(folder, `usage-${journals++}.jsonl`);
  const events = new Map<string, EngineEvent[]>();
  const clock = { now: 1_000_000 };
  model.onRun = (of) => {
    clock.now += 4 + of.reduce((sum, { tokens }) => sum + (tokens.length === 1 ? 1 : 0.4 * tokens.length), 0);
  };
  const journal = new UsageJournal(journalPath);
  const core = new EngineCore({
    model,
    pool,
    rows,
    context: pages * PAGE_TOKENS,
    stepMs,
    speculation,
    adapterTable: table,
    tokenizer: null,
    grammars: grammars ?? { open: () => assert.fail('no grammar was asked for') },
    eos: new Set([EOS]),
    journal,
    baseRevision: REVISION,
    precision: 'int8',
    now: () => clock.now,
    emit: (batches) => {
      for (const [id, more] of batches) events.set(id, [...(events.get(id) ?? []), ...more]);
    },
  });
  const of = (request: EngineRequest) => events.get(request.id) ?? [];
  return {
    core,
    model,
    pool,
    clock,
    of,
    ids: (request: EngineRequest, sequence = 0) =>
      of(request).flatMap((e) => (e.type === 'tokens' && e.sequence === sequence ? e.ids : [])),
    done: (request: EngineRequest) => of(request).find((e) => e.type === 'done'),
    finish(most = 20_000) {
      for (let i = 0; !core.idle; i++) {
        assert.ok(i < most, 'it goes on for ever');
        core.step();
      }
    },
    records() {
      const reader = new Journal();
      reader.fold(readFileSync(journalPath, 'utf8'), journalPath);
      assert.equal(reader.open.size, 0);
      return new Map(reader.takeEnded().map((record) => [record.request_id, record]));
    },
  };
}

/** What a sequence must say: a plain loop. */
function expected(request: EngineRequest, sequence: number) {
  const { sampling, n, prompts } = request;
  const prompt = prompts[Math.floor(sequence / n)]!;
  const adapters = request.adapters.map(({ digest, weight }) => ({ table: table(digest), weight }));
  const scored = sampling.echo && sampling.logprobs !== null;
  const echo = scored
    ? prompt.map((id, i) => (i === 0 ? null : tokenLogprob(logitsAfter(prompt.slice(0, i), adapters), id, sampling.logprobs!)))
    : null;
  const chooser = new TokenChooser(sampling, prompt, null, new Random(sampling.seed!, sequence));
  const ids: number[] = [];
  const logprobs = [];
  let reason = 'length';
  while (ids.length < sampling.maxTokens!) {
    const choice = chooser.choose(logitsAfter([...prompt, ...ids], adapters));
    if (choice.type !== 'token') throw new Error(choice.type);
    ids.push(choice.id);
    if (choice.logprob) logprobs.push(choice.logprob);
    if (choice.id === EOS && !sampling.ignoreEos) {
      reason = 'stop';
      break;
    }
  }
  return { ids, logprobs: sampling.logprobs === null ? null : logprobs, echo, reason };
}

function got(events: readonly EngineEvent[], request: EngineRequest, sequence: number) {
  const own = events.filter((e) => e.type !== 'done' && e.sequence === sequence);
  const tokens = own.filter((e) => e.type === 'tokens');
  const prompt = own.find((e) => e.type === 'prompt');
  assert.equal(prompt !== undefined, request.sampling.echo);
  assert.equal(own.filter((e) => e.type === 'prompt').length, Number(request.sampling.echo));
  const finish = own.at(-1);
  assert.ok(finish?.type === 'finish');
  return {
    ids: tokens.flatMap(({ ids }) => ids),
    logprobs: request.sampling.logprobs === null ? null : tokens.flatMap(({ logprobs }) => logprobs!),
    echo: prompt?.logprobs ?? null,
    reason: finish.reason,
  };
}

const text = (length: number, seed: number) => {
  const random = new Random(seed, 3);
  return Array.from({ length }, () => 4 + Math.floor(random.next() * 36));
};

interface Arrival {
  at: number;
  request: EngineRequest;
  cancelAt: number | null;
}

const arrival = fc
  .record({
    at: fc.nat(60),
    tenant: fc.constantFrom(...TENANTS),
    weight: fc.constantFrom(1, 3),
    priority: fc.constantFrom('interactive' as const, 'interactive' as const, 'batch' as const),
    // Few different beginnings, so that prefixes are shared; ends of any length.
    beginning: fc.nat(2),
    shared: fc.constantFrom(0, 20, 32, 64, 96, 128),
    own: fc.integer({ min: 1, max: 40 }),
    prompts: fc.constantFrom(1, 1, 1, 2),
    n: fc.constantFrom(1, 1, 2, 5),
    adapter: fc.constantFrom([], [], [0], [1], [0, 1]),
    cancelAt: fc.option(fc.nat(60), { freq: 6, nil: null }),
    sampling: fc.record({
      temperature: fc.constantFrom(0, 0, 1),
      seed: fc.nat(1000),
      maxTokens: fc.constantFrom(0, 1, 5, 30, 80),
      logprobs: fc.constantFrom(null, null, 0, 2),
      echo: fc.boolean(),
      ignoreEos: fc.boolean(),
      frequencyPenalty: fc.constantFrom(0, 0, 0.5),
    }),
  })
  .map((a): Arrival => {
    const prompts = Array.from({ length: a.prompts }, (_, i) => [...text(a.shared, a.beginning), ...text(a.own, a.own + i)]);
    const adapters = a.adapter.map((i) => ({ digest: DIGESTS[i]!, weight: 0.5 + i }));
    const request = requestOf(prompts, { tenant: a.tenant, n: a.n, adapters, ...a.sampling });
    request.tenantWeight = a.weight;
    request.priority = a.priority;
    return { at: a.at, request, cancelAt: a.cancelAt === null ? null : a.at + a.cancelAt };
  });

const machine = fc.record({
  rows: fc.integer({ min: 1, max: 6 }),
  // The largest sequence takes 8 pages.
  pages: fc.constantFrom(8, 9, 12, 20, 64),
  stepMs: fc.constantFrom(1, 20, 200),
  speculation: fc.boolean(),
});

test('any composition: the tokens, logprobs and bills of each request are its own', (t) => {
  const totals = { preemptions: 0, cached: 0, accepted: 0, requests: 0 };
  fc.assert(
    fc.property(machine, fc.array(arrival, { minLength: 1, maxLength: 10 }), (options, arrivals) => {
      const { core, of, records, pool, done } = make(options);
      for (let step = 0; step < 5000; step++) {
        for (const { at, request, cancelAt } of arrivals) {
          if (at === step) core.submit(request);
          if (cancelAt === step) core.cancel(request.id);
        }
        core.step();
        assert.ok(core.active <= options.rows);
        if (step > 130 && core.idle) break;
      }
      assert.ok(core.idle, 'everything ends');
      assert.equal(pool.held, 0, 'and gives its pages back');
      const billed = records();
      for (const { request } of arrivals) {
        const { usage, outcome } = done(request)!;
        const events = of(request);
        assert.equal(events.at(-1)!.type, 'done');
        let generated = 0;
        for (let i = 0; i < request.prompts.length * request.n; i++) {
          const [answer, right] = outcome === 'finished' ? [got(events, request, i), expected(request, i)] : partial(events, request, i);
          assert.deepEqual(answer, right);
          generated += answer.ids.length;
        }
        assert.equal(usage.completionTokens, generated);
        const prompts = request.prompts.reduce((sum, { length }) => sum + length, 0);
        if (outcome === 'finished') assert.equal(usage.promptTokens, prompts);
        assert.ok(usage.cachedTokens <= usage.promptTokens && usage.promptTokens <= prompts);
        const record = billed.get(request.id)!;
        assert.deepEqual(
          [record.prompt_tokens, record.cached_tokens, record.completion_tokens, record.outcome],
          [usage.promptTokens, usage.cachedTokens, usage.completionTokens, outcome],
        );
      }
      totals.preemptions += core.meters.preemptions;
      totals.cached += core.meters.cachedTokens;
      totals.accepted += core.meters.acceptedTokens;
      totals.requests += arrivals.length;
    }),
    { numRuns: 300, seed: 4 },
  );
  t.diagnostic(JSON.stringify(totals));
  assert.ok(totals.preemptions > 100 && totals.cached > 1000 && totals.accepted > 1000, 'everything that may disturb did happen');
});

/** Of a request that was cancelled: what came, and as much of what would have come. */
function partial(events: readonly EngineEvent[], request: EngineRequest, sequence: number) {
  const ids = events.flatMap((e) => (e.type === 'tokens' && e.sequence === sequence ? e.ids : []));
  return [{ ids }, { ids: expected(request, sequence).ids.slice(0, ids.length) }] as const;
}

const ask = (prompt: number[], more: RequestOptions & { priority?: EngineRequest['priority'] } = {}) => {
  const { priority = 'interactive', ...options } = more;
  const request = requestOf([prompt], { tenant: TENANTS[0]!, seed: 1, ignoreEos: true, ...options });
  request.priority = priority;
  return request;
};

describe('the prefix cache', () => {
  test('a tenant finds what it computed before, generated tokens included, and another tenant does not', () => {
    const { core, finish, done, ids, model } = make();
    const first = ask(text(100, 1), { maxTokens: 60 });
    core.submit(first);
    finish();
    assert.equal(done(first)!.usage.cachedTokens, 0);
    const chat = [...text(100, 1), ...ids(first), ...text(10, 2)];
    const [again, other, adapted] = [
      ask(chat, { maxTokens: 1 }),
      ask(chat, { maxTokens: 1, tenant: TENANTS[1]! }),
      ask(chat, { maxTokens: 1, adapters: [{ digest: DIGESTS[0]!, weight: 1 }] }),
    ];
    for (const request of [again, other, adapted]) core.submit(request);
    finish();
    // 100 + 60 tokens, the last of them never computed.
    assert.equal(done(again)!.usage.cachedTokens, 4 * PAGE_TOKENS);
    assert.equal(done(again)!.usage.promptTokens, chat.length);
    assert.deepEqual([done(other)!.usage.cachedTokens, done(adapted)!.usage.cachedTokens], [0, 0]);
    assert.ok(model.steps.length > 0);
  });

  test('the last token of a prompt is always computed', () => {
    const { core, finish, done } = make();
    for (const request of [ask(text(64, 1)), ask(text(64, 1))]) {
      core.submit(request);
      finish();
      if (request.id !== undefined) assert.equal(done(request)!.usage.promptTokens, 64);
    }
    const third = ask(text(64, 1));
    core.submit(third);
    finish();
    assert.equal(done(third)!.usage.cachedTokens, 32);
  });

  test('choices of one prompt compute it once and pay for it once', () => {
    const { core, finish, done, model } = make({ rows: 8 });
    const request = ask(text(320, 1), { n: 8, maxTokens: 4, temperature: 1 });
    core.submit(request);
    finish();
    assert.deepEqual(done(request)!.usage, { promptTokens: 320, cachedTokens: 0, completionTokens: 32 });
    const computed = model.steps.reduce((sum, { tokens }) => sum + tokens, 0);
    assert.ok(computed < 320 + 7 * 32 + 8 * 4 + 64, `${computed} tokens computed`);
  });

  test('choices of one prompt share the scores of its tokens', () => {
    const { core, finish, of } = make({ rows: 8 });
    const request = ask(text(200, 1), { n: 3, maxTokens: 2, echo: true, logprobs: 1 });
    core.submit(request);
    finish();
    for (let i = 0; i < 3; i++) assert.deepEqual(got(of(request), request, i), expected(request, i));
    assert.ok(core.meters.prefilledTokens < 200 + 2 * 32);
  });
});

describe('steps', () => {
  test('while others decode a long prompt is cut so that a step keeps its time', () => {
    const { core, clock, ids } = make({ pages: 512, stepMs: 20 });
    const stream = ask(text(8, 1), { maxTokens: 4000 });
    core.submit(stream);
    // The model of time learns.
    for (let i = 0; i < 100; i++) {
      if (i % 10 === 0) core.submit(ask(text(200, 100 + i), { maxTokens: 1 }));
      core.step();
    }
    core.submit(ask(text(3000, 2), { maxTokens: 1 }));
    const before = ids(stream).length;
    const times = Array.from({ length: 40 }, () => {
      const began = clock.now;
      core.step();
      return clock.now - began;
    });
    assert.ok(ids(stream).length - before >= 40, 'the stream gets its token in every step');
    assert.ok(
      times.every((ms) => ms < 24),
      `${Math.max(...times)}`,
    );
    assert.ok(core.meters.prefilledTokens > 1000, 'and the prompt advances');
  });

  test('short prompts do not wait for a long one', () => {
    const { core, of } = make({ pages: 512 });
    const [long, short] = [ask(text(4000, 1)), ask(text(10, 2))];
    core.submit(long);
    core.step();
    core.submit(short);
    core.step();
    assert.ok(of(short).some((e) => e.type === 'tokens'));
    assert.equal(of(long).length, 0);
  });

  test('drafts save steps, and saying the same without them takes one step a token', () => {
    const steps = [true, false].map((speculation) => {
      const { core, finish, ids, model } = make({ speculation });
      const request = ask(text(12, 5), { maxTokens: 150 });
      core.submit(request);
      finish();
      assert.deepEqual(ids(request), expected(request, 0).ids);
      return model.steps.length;
    });
    assert.equal(steps[1], 150);
    assert.ok(steps[0]! < 100, `${steps[0]} steps`);
  });
});

describe('who gives way', () => {
  test('interactive work takes rows from batch work, which resumes and is not billed twice', () => {
    const { core, finish, done, ids } = make({ rows: 2 });
    const batch = [1, 2].map((seed) => ask(text(70, seed), { maxTokens: 40, priority: 'batch', tenant: TENANTS[1]! }));
    for (const request of batch) core.submit(request);
    for (let i = 0; i < 10; i++) core.step();
    const interactive = [3, 4].map((seed) => ask(text(20, seed), { maxTokens: 10 }));
    for (const request of interactive) core.submit(request);
    core.step();
    assert.ok(
      interactive.every((request) => ids(request).length > 0),
      'they run at once',
    );
    finish();
    assert.equal(core.meters.preemptions, 2);
    for (const request of [...batch, ...interactive]) assert.deepEqual(ids(request), expected(request, 0).ids);
    assert.deepEqual(done(batch[0]!)!.usage, { promptTokens: 70, cachedTokens: 0, completionTokens: 40 });
    assert.ok(core.meters.prefilledTokens < 2 * 70 + 2 * 20 + 2 * 70, 'what was computed is mostly found again');
  });

  test('when pages run out one sequence always goes on', () => {
    const { core, finish, ids } = make({ rows: 3, pages: 8 });
    const requests = [1, 2, 3].map((seed) => ask(text(60, seed), { maxTokens: 190 }));
    for (const request of requests) core.submit(request);
    finish();
    assert.ok(core.meters.preemptions > 0);
    for (const request of requests) assert.deepEqual(ids(request), expected(request, 0).ids);
  });
});

describe('endings', () => {
  test('a cancelled request is gone within one step, running or waiting, and its pages are free', () => {
    const { core, of, pool } = make({ rows: 2 });
    const [a, b, waiting] = [1, 2, 3].map((seed) => ask(text(40, seed), { maxTokens: 500 }));
    for (const request of [a!, b!, waiting!]) core.submit(request);
    core.step();
    core.step();
    const held = pool.held;
    core.cancel(a!.id);
    core.cancel(waiting!.id);
    core.step();
    assert.deepEqual([core.active, core.queued.all], [1, 0]);
    assert.ok(pool.held < held);
    for (const request of [a!, waiting!]) {
      const [finish, done] = of(request).slice(-2);
      assert.ok(finish?.type === 'finish' && finish.reason === 'cancelled');
      assert.ok(done?.type === 'done' && done.outcome === 'cancelled');
    }
    core.cancel('req_of_nobody');
  });

  test('what has not begun by its deadline expires, what has begun goes on', () => {
    const { core, clock, finish, done } = make({ rows: 1 });
    const [running, late] = [ask(text(10, 1), { maxTokens: 50 }), ask(text(10, 2), { maxTokens: 5 })];
    running.deadline = late.deadline = clock.now + 20;
    core.submit(running);
    core.submit(late);
    finish();
    assert.equal(done(running)!.outcome, 'finished');
    assert.deepEqual([done(late)!.outcome, done(late)!.usage.promptTokens, done(late)!.queuedMs], ['expired', 0, undefined]);
  });

  test('the times of a request are told', () => {
    const { core, finish, done } = make({ rows: 1 });
    const [first, second] = [ask(text(10, 1), { maxTokens: 5 }), ask(text(10, 2), { maxTokens: 5 })];
    core.submit(first);
    core.submit(second);
    finish();
    assert.equal(done(first)!.queuedMs, 0);
    assert.ok(done(first)!.firstTokenMs! > 0);
    assert.ok(done(second)!.queuedMs! >= done(first)!.firstTokenMs!);
  });

  test('a grammar that is late is asked again, one that fails ends its request alone', () => {
    let asked = 0;
    const grammars: CoreParts['grammars'] = {
      open: (grammar) => ({
        allowed: (): Allowed => {
          if (grammar.kind === 'json_object') return { type: 'failed', message: 'no token may follow' };
          return asked++ % 3 < 2 ? { type: 'pending' } : { type: 'some', mask: new Int32Array(2).fill(-1) };
        },
        accept: () => {},
        close: () => {},
      }),
    };
    const { core, finish, done, ids } = make({ grammars });
    const [late, failing, plain] = [1, 2, 3].map((seed) => ask(text(40, seed), { maxTokens: 12 }));
    late!.grammar = { kind: 'structural_tag', tag: '{}' };
    failing!.grammar = { kind: 'json_object' };
    for (const request of [late!, failing!, plain!]) core.submit(request);
    finish();
    assert.deepEqual([done(failing!)!.outcome, done(failing!)!.error], ['failed', 'no token may follow']);
    for (const request of [late!, plain!]) {
      assert.deepEqual(ids(request), expected(request, 0).ids);
      assert.equal(done(request)!.usage.promptTokens, 40);
    }
  });
});
