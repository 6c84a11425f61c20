/**
 * Six hundred uploads to a running base: a name in a database and bytes in storage each, and nothing in
 * the worker that grows with them. Judged by /metrics, as an operator sees it.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT } from '../../cli/home.ts';
import { randomAdapter, TINY_LLAMA } from './random-adapter.ts';
import { TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

const BASE = 'llama';
const UPLOADS = 600;
const AT_ONCE = 4;
/** Room for 34 of the adapters' images. */
const ADAPTER_MEMORY_MB = 4;
/** Every fourth adapter is called: nearly four times what memory holds. */
const CALLED_EVERY = 4;
/** Of one package, and about as many of its sealed form. */
const ADAPTER_BYTES = 230_000;
/** The first uploads warm up: code, connections, and garbage that V8 lets lie. */
const WARM_UP = 200;
/**
 * What the worker may grow by over the uploads after those: two thirds of their packages, so keeping them
 * fails. Growth over the calls is printed, not asserted: buffers of adapters that left memory wait for a
 * collection in the thread that made them, which comes late and has no bound that a short test could state.
 */
const GROWTH_BYTES = ((UPLOADS - WARM_UP) * ADAPTER_BYTES * 2) / 3;

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start({
    SWITCHYARD_BASE: join(ROOT, 'tests', 'fixtures', 'families', BASE),
    SWITCHYARD_ADAPTER_MEMORY_MB: String(ADAPTER_MEMORY_MB),
  });
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const names = Array.from({ length: UPLOADS }, (_, i) => `adapter-${i}`);

/** Some at a time, results in order. */
async function each<T, R>(items: readonly T[], job: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const entries = items.entries();
  const lane = async () => {
    for (const [i, item] of entries) results[i] = await job(item, i);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return results;
}

async function ask(model: string): Promise<string> {
  const answer = await tenant.client.completions.create({
    model,
    prompt: [11, 22, 33],
    max_tokens: 2,
    temperature: 0,
    logprobs: 1,
  });
  return JSON.stringify(answer.choices[0]!.logprobs);
}

/** The one worker's value of each metric that this is about. */
async function metrics() {
  const response = await stack.call('/metrics', await stack.adminKey());
  assert.equal(response.status, 200);
  const text = await response.text();
  const value = (name: string): number => {
    const sample = new RegExp(`^${name}\\{worker="worker-1-[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1];
    assert.ok(sample, `/metrics has ${name}`);
    return Number(sample);
  };
  return {
    constant: {
      sessions: value('switchyard_engine_sessions'),
      base: value('switchyard_engine_base_bytes'),
      kv: value('switchyard_engine_kv_bytes'),
    },
    resident: value('switchyard_engine_resident_adapters'),
    residentBytes: value('switchyard_engine_resident_adapter_bytes'),
    rss: value('switchyard_process_resident_bytes'),
  };
}

test('six hundred adapters are uploaded, called and deleted, and the worker stays as it was', async (t) => {
  const upload = async (name: string, seed: number) => (await stack.upload(tenant, name, randomAdapter(seed, TINY_LLAMA), BASE)).digest;
  const start = await metrics();
  const digests = await each(names.slice(0, WARM_UP), upload);
  const warm = await metrics();
  digests.push(...(await each(names.slice(WARM_UP), (name, i) => upload(name, WARM_UP + i))));
  assert.equal(new Set(digests).size, UPLOADS);
  const uploaded = await metrics();
  assert.deepEqual(uploaded.constant, start.constant);
  assert.equal(uploaded.resident, 0, 'only a call brings an adapter into memory');
  assert.ok(uploaded.rss - warm.rss < GROWTH_BYTES, `the worker grew from ${warm.rss} to ${uploaded.rss} bytes`);

  const called = names.filter((_, i) => i % CALLED_EVERY === 0);
  const answers = await each(called, ask);
  assert.equal(new Set(answers).size, called.length, 'each adapter answers in its own way');
  const full = await metrics();

  const deleted = called.filter((_, i) => i % 2 === 0);
  const remove = async (name: string) => (await stack.call(`/v1/adapters/${name}`, tenant.key, { method: 'DELETE' })).status;
  assert.deepEqual(new Set(await each(deleted, remove)), new Set([200]));
  for (const name of deleted) await assert.rejects(ask(name), /404/);
  const isKept = (_: unknown, i: number) => i % 2 === 1;
  assert.deepEqual(await each(called.filter(isKept), ask), answers.filter(isKept));
  const end = await metrics();

  for (const { constant, resident, residentBytes } of [full, end]) {
    assert.deepEqual(constant, start.constant);
    assert.ok(resident > 10 && resident < called.length, `${resident} of ${called.length} adapters are resident`);
    assert.ok(residentBytes <= ADAPTER_MEMORY_MB * 1_000_000, `${residentBytes} bytes are resident`);
  }
  const rss = [start, warm, uploaded, full, end].map((m) => Math.round(m.rss / 1e6));
  t.diagnostic(`the worker's MB at start, after ${WARM_UP} and ${UPLOADS} uploads, after the calls, at the end: ${rss.join(', ')}`);
});
