/** A batch on the real base: kills of worker and edge on the way, the right answers, an exact bill, and interactive work beside it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import { toFile } from 'openai';
import { adapterFiles, BASE, eventually, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start();
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const ask = (content: string, model = BASE): OpenAI.ChatCompletionCreateParamsNonStreaming => ({
  model,
  messages: [{ role: 'user', content }],
  temperature: 0,
  max_tokens: 48,
});

async function createBatch(bodies: object[]): Promise<string> {
  const lines = bodies.map((body, i) => JSON.stringify({ custom_id: `c-${i}`, method: 'POST', url: '/v1/chat/completions', body }));
  const { id } = await tenant.client.files.create({ purpose: 'batch', file: await toFile(Buffer.from(lines.join('\n')), 'in.jsonl') });
  const batch = await tenant.client.batches.create({ input_file_id: id, endpoint: '/v1/chat/completions', completion_window: '24h' });
  return batch.id;
}

const retrieve = (id: string) => tenant.client.batches.retrieve(id);
const completed = (id: string) =>
  eventually('the batch is completed', 120_000, async () => await retrieve(id).then((b) => b.status === 'completed' && b));
const isPast = (id: string, requests: number) =>
  eventually(`${requests} requests are done`, 60_000, async () => ((await retrieve(id)).request_counts?.completed ?? 0) >= requests);

async function answersOf(batch: OpenAI.Batch): Promise<OpenAI.ChatCompletion[]> {
  const text = await (await tenant.client.files.content(batch.output_file_id!)).text();
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { custom_id: string; response: { body: OpenAI.ChatCompletion } });
  return lines.toSorted((a, b) => Number(a.custom_id.slice(2)) - Number(b.custom_id.slice(2))).map((line) => line.response.body);
}

/** Tokens held for the tenant's requests under way. */
async function reserved(): Promise<number> {
  const response = await stack.call('/v1/admin/reconcile', await stack.adminKey());
  const { data } = (await response.json()) as { data: { tenant: string; reserved: number }[] };
  return data.find((row) => row.tenant === tenant.id)?.reserved ?? 0;
}

async function usage(): Promise<{ requests: number; prompt_tokens: number; completion_tokens: number; cost_nano: number }> {
  const { total } = (await (await stack.call('/v1/usage', tenant.key)).json()) as { total: Awaited<ReturnType<typeof usage>> };
  return total;
}

test('kill -9 of edge and worker on the way: the answers of single requests, the edge costs nothing, the bill is exact', async () => {
  await stack.upload(tenant, 'pirate', await adapterFiles('pirate'));
  const questions = Array.from({ length: 14 }, (_, i) => ask(`Tell me a fact about the number ${i}.`, i % 3 === 0 ? 'pirate' : BASE));
  const alone = [];
  for (const question of questions) alone.push((await tenant.client.chat.completions.create(question)).choices[0]?.message.content);
  await stack.settled(tenant);
  const before = await usage();

  const id = await createBatch(questions);
  await isPast(id, 3);
  const { edge } = await stack.run();
  process.kill(edge!.pid, 'SIGKILL');
  await isPast(id, 6);
  const { workers } = await stack.run();
  process.kill(workers[0]!.pid, 'SIGKILL');
  const batch = await completed(id);

  const refused = batch.error_file_id ? await (await tenant.client.files.content(batch.error_file_id)).text() : '';
  assert.equal(refused, '');
  assert.deepEqual(batch.request_counts, { total: 14, completed: 14, failed: 0 });
  const answers = await answersOf(batch);
  assert.deepEqual(
    answers.map((answer) => answer.choices[0]?.message.content),
    alone,
  );
  await stack.settled(tenant);
  const invoice = (await (await stack.call(`/v1/invoices/${new Date().toISOString().slice(0, 7)}`, tenant.key)).json()) as {
    lines: { unit: string; quantity: number }[];
  };
  const billed = (...units: string[]) => invoice.lines.reduce((sum, line) => sum + (units.includes(line.unit) ? line.quantity : 0), 0);
  const sum = (pick: (u: OpenAI.CompletionUsage) => number) => answers.reduce((n, answer) => n + pick(answer.usage!), 0);
  // Every request of the batch is paid once, whatever was killed; single requests have units of their own.
  assert.equal(
    billed('batch_completion_token'),
    sum((u) => u.completion_tokens),
  );
  assert.equal(
    billed('batch_prompt_token', 'batch_cached_prompt_token'),
    sum((u) => u.prompt_tokens),
  );
  assert.equal(billed('completion_token'), before.completion_tokens);
});

test('cancelling frees the worker within seconds', async () => {
  const id = await createBatch(
    Array.from({ length: 40 }, (_, i) => ({ ...ask(`Write a long story about ${i}.`), max_tokens: 1500, ignore_eos: true })),
  );
  await eventually('requests are under way', 20_000, async () => (await reserved()) > 0);
  await tenant.client.batches.cancel(id);
  await eventually('it is cancelled', 5_000, async () => (await retrieve(id)).status === 'cancelled');
  const row = await stack.settled(tenant);
  assert.equal(row.reserved, 0);
});
