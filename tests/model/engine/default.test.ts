/**
 * The real base in its default precision: near float32 in quality, and batch-invariant. A request's tokens and
 * log-probabilities are the same bits whatever runs beside it, whatever is loaded, unloaded or cancelled meanwhile.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { bytesPerPage } from '../../../gpu-worker/engine/kv-pool.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import type { EngineRequest } from '../../../shared/contract/engine.ts';
import { newTenantId } from '../../../shared/ids.ts';
import { bitsOf, generate, open, type RequestOptions, requestOf, type SequenceResult, submit } from '../../synthetic/engine/support.ts';
import { basePath } from '../source/base-path.ts';
import { ADAPTERS, loadAdapter, perplexityText } from './support.ts';

const FP32_PERPLEXITY = 22.385;

const { engine, ...opened } = await open({ basePath: basePath(), precision: 'auto', context: 2048, speculation: false });
after(() => opened[Symbol.asyncDispose]());
const text = perplexityText().ids;

/** Eight adapters: the trained ones, and each at half its strength. */
const digests = await Promise.all([1, 0.5].flatMap((factor) => ADAPTERS.map((name) => loadAdapter(engine, name, factor))));
const adapter = (i: number, weight = 1) => ({ digest: digests[i]!, weight });

test('the default is int8, and its perplexity is within one percent of float32', async (t) => {
  assert.equal(engine.base.precision, 'int8');
  const { prompt } = await generate(engine, text, { echo: true, logprobs: 0, maxTokens: 0 });
  const scored = prompt!.logprobs!.slice(1);
  const perplexity = Math.exp(-scored.reduce((sum, x) => sum + x!.logprob, 0) / scored.length);
  t.diagnostic(`perplexity ${perplexity}, ${((perplexity / FP32_PERPLEXITY - 1) * 100).toFixed(2)} % above float32`);
  assert.ok(Math.abs(perplexity / FP32_PERPLEXITY - 1) < 0.01);
});

interface Kind {
  prompt: number[];
  options: RequestOptions;
}

/** Every sort of request, with prompts below, at and beyond the size of pages and chunks. */
const KINDS: Kind[] = [
  { prompt: text.slice(0, 1), options: { maxTokens: 12, logprobs: 5 } },
  { prompt: text.slice(40, 77), options: { maxTokens: 16, logprobs: 20 } },
  { prompt: text.slice(100, 228), options: { maxTokens: 8, logprobs: 3 } },
  { prompt: text.slice(0, 129), options: { maxTokens: 10, logprobs: 3 } },
  { prompt: text.slice(300, 600), options: { maxTokens: 6, logprobs: 1, echo: true } },
  { prompt: text.slice(7, 20), options: { maxTokens: 20, logprobs: 2, temperature: 1, seed: 11, n: 2 } },
  { prompt: text.slice(900, 930), options: { maxTokens: 16, logprobs: 0, temperature: 0.8, topP: 0.9, topK: 40, seed: 5 } },
  ...digests.map(
    (_, i): Kind => ({
      prompt: text.slice(50 * i, 50 * i + [9, 30, 140, 64][i % 4]!),
      options: { maxTokens: 6 + i, logprobs: 2, ignoreEos: true, adapters: [adapter(i)] },
    }),
  ),
  { prompt: text.slice(10, 40), options: { maxTokens: 12, logprobs: 2, adapters: [adapter(0, 0.6), adapter(2, 0.4)] } },
  { prompt: text.slice(20, 180), options: { maxTokens: 12, logprobs: 2, adapters: [adapter(3, -0.25), adapter(1, 1.5), adapter(6, 0.1)] } },
  // Seven side by side have a rank of 52.
  { prompt: text.slice(60, 75), options: { maxTokens: 9, logprobs: 2, adapters: digests.slice(0, 7).map((_, i) => adapter(i, 0.2)) } },
];

/** A text that repeats itself, so that its own beginning says what comes next. */
const REPEATING =
  KINDS.push({ prompt: [0, 1, 2].flatMap(() => text.slice(0, 24)), options: { maxTokens: 40, logprobs: 2, ignoreEos: true } }) - 1;

const bits = (results: readonly SequenceResult[]) => results.map(bitsOf);
const alone: ReturnType<typeof bits>[] = [];

test('alone, a request gives the same bits again', async () => {
  for (const { prompt, options } of KINDS) {
    const { sequences } = await submit(engine, requestOf([prompt], options)).result;
    alone.push(bits(sequences));
  }
  for (const i of [1, 4, 9, 17]) {
    const { prompt, options } = KINDS[i]!;
    const { sequences } = await submit(engine, requestOf([prompt], options)).result;
    assert.deepEqual(bits(sequences), alone[i]);
  }
});

/** Loads and unloads adapters that no request uses, until told to stop. */
async function churn(running: () => boolean): Promise<number> {
  let turns = 0;
  for (; running(); turns++) {
    const digest = await loadAdapter(engine, ADAPTERS[turns % ADAPTERS.length]!, 3 + (turns % 5));
    await sleep(30);
    await engine.unload(digest);
  }
  return turns;
}

interface Arrival {
  kind: number;
  /** Milliseconds after the composition began. */
  at: number;
  /** Tokens of the first sequence after which it is cancelled; null: never. */
  cancelAfter: number | null;
}

async function play({ kind, at, cancelAfter }: Arrival, on = engine, more: Partial<EngineRequest> = {}): Promise<void> {
  await sleep(at);
  const { prompt, options } = KINDS[kind]!;
  let seen = 0;
  const submitted = submit(on, { ...requestOf([prompt], options), ...more }, (events) => {
    seen += events.filter((event) => event.type === 'tokens').length;
    if (cancelAfter !== null && seen > cancelAfter) submitted.cancel();
  });
  const { sequences, done } = await submitted.result;
  const expected = alone[kind]!;
  if (done.outcome === 'finished') {
    assert.deepEqual(bits(sequences), expected, `request of kind ${kind}`);
    return;
  }
  assert.equal(done.outcome, 'cancelled');
  for (const [i, { ids, logprobs }] of sequences.entries()) {
    assert.deepEqual(ids, expected[i]!.ids.slice(0, ids.length), `cancelled request of kind ${kind}`);
    assert.deepEqual(logprobs ?? [], (expected[i]!.logprobs ?? []).slice(0, ids.length));
  }
}

test('in any company, a request gives the bits that it gives alone', async (t) => {
  const arrival = fc.record({
    kind: fc.nat(KINDS.length - 1),
    at: fc.nat(500),
    cancelAfter: fc.option(fc.nat(10), { freq: 4, nil: null }),
  });
  let requests = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(arrival, { minLength: 6, maxLength: 16, size: 'max' }), async (arrivals) => {
      let running = true;
      const churning = churn(() => running);
      try {
        await Promise.all(arrivals.map((arrival) => play(arrival)));
      } finally {
        running = false;
        await churning;
      }
      requests += arrivals.length;
    }),
    { seed: 135, numRuns: 6, endOnFailure: true },
  );
  t.diagnostic(`${requests} requests compared bit for bit`);
});

test('nor does it matter how short of memory and time the engine is, what it finds, and what it drafts', async (t) => {
  const config = (await openCheckpoint(basePath())).config;
  // Three times what the longest sequence takes.
  const kvBytes = 30 * bytesPerPage(config, 'f16');
  await using short = await open({ basePath: basePath(), precision: 'auto', rows: 5, kvBytes, stepMs: 10 });
  for (const factor of [1, 0.5]) for (const name of ADAPTERS) await loadAdapter(short.engine, name, factor);
  const account = { tenant: newTenantId(), keyId: 'key', model: 'base', fromBatch: false };
  // Each kind at batch priority, and soon after it another one that takes its row.
  const asked = [...KINDS.keys()].flatMap((kind) => {
    const later = (kind + 9) % KINDS.length;
    return [
      play({ kind, at: 30 * kind, cancelAfter: null }, short.engine, { account, priority: 'batch' }),
      play({ kind: later, at: 30 * kind + 10, cancelAfter: null }, short.engine, { account }),
    ];
  });
  await Promise.all(asked);
  // With nobody beside it drafts pay, however fast the machine is.
  await play({ kind: REPEATING, at: 0, cancelAfter: null }, short.engine, { account });
  const { preemptions, cachedTokens, draftedTokens, acceptedTokens } = await short.engine.stats();
  t.diagnostic(JSON.stringify({ preemptions, cachedTokens, draftedTokens, acceptedTokens }));
  assert.ok(preemptions > 0 && cachedTokens > 0 && acceptedTokens > 0);
});

test('eight streams on eight adapters give what each gives alone, while others come and go', async (t) => {
  const prompt = text.slice(500, 540);
  const ask = (i: number) => generate(engine, prompt, { adapters: [adapter(i)], maxTokens: 20, logprobs: 20, ignoreEos: true });
  const solo: SequenceResult[] = [];
  for (const i of digests.keys()) solo.push(await ask(i));
  assert.equal(new Set(solo.map(({ logprobs }) => logprobs![0]!.logprob)).size, 8, 'the adapters differ');
  let running = true;
  const churning = churn(() => running);
  const together = await Promise.all(digests.map((_, i) => ask(i)));
  running = false;
  const turns = await churning;
  assert.deepEqual(bits(together), bits(solo));
  t.diagnostic(`${turns} adapters loaded and unloaded meanwhile`);
  assert.ok(turns > 0);
});

test('sessions and residents are what they were before all those loads', async () => {
  const { sessions, residentAdapters } = await engine.stats();
  assert.deepEqual({ sessions, residentAdapters }, { sessions: 1, residentAdapters: digests.length });
});
