/** GET /metrics says what an operator needs, under names that stay, with few series however many adapters there are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMeasures, measured } from '../../../gpu-worker/server/metrics.ts';
import type { Engine, EngineEvent, EngineRequest, EngineStats } from '../../../shared/contract/engine.ts';
import { BASE, done, playedEngine } from './worker-double.ts';

const STATS: EngineStats = {
  ...{ active: 3, prefilling: 1, queued: 4, queuedBatch: 2, slots: 16, sessions: 1, baseBytes: 100, kvBytes: 200 },
  ...{ kvPages: 50, kvPagesHeld: 20, kvPagesCached: 5, residentAdapters: 2, residentAdapterBytes: 30 },
  ...{ steps: 7, rows: 21, tokens: 90, generatedTokens: 40, prefilledTokens: 50, cachedTokens: 8, preemptions: 1 },
  ...{ draftedTokens: 6, acceptedTokens: 5 },
  stepMs: { bounds: [5, 10], counts: [4, 2, 1], sum: 60 },
};
const TIER = { adapters: 2, bytes: 30, pinned: 1, waiting: 0 };
const DISK = { images: 9, bytes: 90, evictions: 4, damaged: 1 };

function setUp(events: (request: EngineRequest) => EngineEvent[] = () => []) {
  const engine: Engine = { ...playedEngine(({ request, step }) => step(...events(request))), stats: async () => STATS };
  const measures = createMeasures(engine);
  return { measures, engine: measured(engine, measures) };
}

/** Samples by name and labels; those of the base, which all have, left out. */
function samplesOf(text: string): Map<string, number> {
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    samples.map((line) => {
      const [, name, labels, value] = /^(\w+)\{(.*)\} (\S+)$/.exec(line)!;
      const own = labels!.split(',').filter((label) => !label.startsWith('base'));
      assert.equal(labels!.split(',').length - own.length, 2, `${line} names its base and revision`);
      return [own.length === 0 ? name! : `${name}{${own.join()}}`, Number(value)];
    }),
  );
}

const render = async ({ render }: ReturnType<typeof createMeasures>) => samplesOf((await render(TIER, DISK)).text);

test("the engine's counts: gauges, counters that do not add up twice, and its steps as a histogram in seconds", async () => {
  const { measures } = setUp();
  await render(measures);
  const samples = await render(measures);
  const expected = {
    switchyard_engine_active: 3,
    switchyard_engine_kv_pages_cached: 5,
    switchyard_engine_preemptions_total: 1,
    switchyard_engine_accepted_tokens_total: 5,
    'switchyard_engine_step_seconds_bucket{le="0.005"}': 4,
    'switchyard_engine_step_seconds_bucket{le="0.01"}': 6,
    'switchyard_engine_step_seconds_bucket{le="+Inf"}': 7,
    switchyard_engine_step_seconds_sum: 0.06,
    switchyard_engine_step_seconds_count: 7,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(samples.get(name), value, name);
  for (const field of Object.keys(STATS).filter((name) => name !== 'stepMs')) {
    const name = `switchyard_engine_${field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    assert.ok(samples.has(name) || samples.has(`${name}_total`), name);
  }
});

test('tiers: hits, loads by source, evictions, what they hold', async () => {
  const { measures } = setUp();
  measures.tier.asked('a', true);
  measures.tier.asked('b', false);
  measures.tier.loaded('object_storage', 0.04);
  measures.tier.evicted();
  await render(measures);
  const samples = await render(measures);
  const expected = {
    'switchyard_adapter_lookups_total{result="hit"}': 1,
    'switchyard_adapter_lookups_total{result="miss"}': 1,
    'switchyard_adapter_load_seconds_bucket{le="0.025",tier="object_storage"}': 0,
    'switchyard_adapter_load_seconds_bucket{le="0.05",tier="object_storage"}': 1,
    'switchyard_adapter_evictions_total{tier="memory"}': 1,
    'switchyard_adapter_evictions_total{tier="disk"}': 4,
    'switchyard_adapter_tier_bytes{tier="memory"}': 30,
    'switchyard_adapter_tier_bytes{tier="disk"}': 90,
    'switchyard_adapter_tier_adapters{tier="disk"}': 9,
    switchyard_adapter_pinned: 1,
    switchyard_adapter_damaged_files_total: 1,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(samples.get(name), value, name);
});

test('a request’s events are measured as they pass: queue, gaps between tokens, tokens by adapter', async () => {
  const tokens = (ids: number[]): EngineEvent => ({ type: 'tokens', sequence: 0, ids, text: '', logprobs: null });
  const { measures, engine } = setUp(({ prompts }) => [
    tokens([1]),
    tokens([2, 3]),
    { ...(done(prompts[0]!.length, 3) as Extract<EngineEvent, { type: 'done' }>), queuedMs: 250 },
  ]);
  const run = (digest: string) =>
    new Promise<EngineEvent[]>((resolve) => {
      engine.submit({ prompts: [[1, 2]], adapters: [{ digest, weight: 1 }] } as unknown as EngineRequest, resolve);
    });
  assert.equal((await run('a')).length, 3, 'nothing is lost on the way');
  for (let i = 0; i < 200; i++) await run(`adapter-${i}`);
  const samples = await render(measures);
  assert.equal(samples.get('switchyard_queue_seconds_sum'), 201 * 0.25);
  assert.equal(samples.get('switchyard_inter_token_seconds_count'), 201);
  assert.equal(samples.get('switchyard_adapter_tokens_total{adapter="a",kind="prompt"}'), 2);
  assert.equal(samples.get('switchyard_adapter_tokens_total{adapter="a",kind="completion"}'), 3);
  const named = [...samples].filter(([name]) => name.startsWith('switchyard_adapter_requests_total'));
  assert.equal(named.length, 51);
  assert.equal(
    named.reduce((sum, [, count]) => sum + count, 0),
    201,
  );
  assert.equal(samples.get('switchyard_adapter_requests_total{adapter="other"}'), 151);
});

test('it names the base', async () => {
  const { text } = await setUp().measures.render(TIER, DISK);
  assert.match(text, new RegExp(`base="${BASE.id}",base_revision="${BASE.revision}"`));
});
