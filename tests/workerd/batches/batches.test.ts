/** /v1/batches with the official client; the worker behind is played. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import type { GenerateRequest } from '../../../shared/contract/worker.ts';
import { BatchClient, line } from '../support/batch.ts';
import { say } from '../support/chat.ts';
import { BASE, json, Peer, usageOf } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
let peer: Peer;
let tenant: Caller & { id: string };
let client: BatchClient;
before(async () => {
  stack = await startStack();
  peer = await Peer.start(stack.edge.url);
});
after(async () => {
  await peer.stop();
  await stack.stop();
});
beforeEach(async () => {
  tenant = await stack.newTenant();
  client = new BatchClient(stack.edge.url, tenant.key);
  peer.generated.length = 0;
  peer.onGenerate = (request, res) => say(request, res, { content: `You said: ${saidIn(request)}` });
});

const ask = (content: string, more: object = {}) => ({ model: BASE.id, messages: [{ role: 'user', content }], max_tokens: 8, ...more });
const saidIn = ({ input }: GenerateRequest): string => (input.kind === 'chat' ? input.messages.at(-1)!.content : String(input.prompts[0]));
const bodyOf = (answer: { response: { body: unknown } | null } | undefined) => answer?.response?.body as OpenAI.ChatCompletion;

test('every request of the file is answered once, at batch priority, with its own id', async () => {
  const lines = Array.from({ length: 25 }, (_, i) => line(`c-${i}`, ask(`ü${i}`)));
  const made = await client.create(lines, '/v1/chat/completions', { metadata: { run: '1' } });
  assert.match(made.id, /^batch_[0-9a-z]{24}$/);
  assert.equal(made.status, 'validating');
  const done = await client.until(made.id, 'completed');
  assert.deepEqual(done.request_counts, { total: 25, completed: 25, failed: 0 });
  assert.deepEqual([done.errors, done.error_file_id, done.metadata], [null, null, { run: '1' }]);
  for (const at of ['created_at', 'in_progress_at', 'finalizing_at', 'completed_at', 'expires_at'] as const) assert.ok(done[at], at);
  assert.equal(done.expires_at, done.created_at + 86_400);
  assert.equal(done.usage?.total_tokens, 25 * 14);
  const answers = await client.answers(done.output_file_id);
  for (const { custom_id } of lines) {
    const answer = answers.get(custom_id)!;
    assert.equal(bodyOf(answer).choices[0]?.message.content, `You said: ü${custom_id.slice(2)}`);
    assert.deepEqual([answer.response?.status_code, answer.error], [200, null]);
    assert.ok(peer.generated.some((g) => g.request_id === answer.response?.request_id));
  }
  assert.equal(peer.generated.length, 25);
  assert.equal(new Set(peer.generated.map((g) => g.request_id)).size, 25);
  for (const g of peer.generated)
    assert.deepEqual([g.priority, g.from_batch, g.deadline, g.tenant], ['batch', true, done.expires_at! * 1000, tenant.id]);
  const output = await client.openai.files.retrieve(done.output_file_id!);
  assert.deepEqual([output.purpose, output.filename], ['batch_output', `${made.id}_output.jsonl`]);
});

test('completions and responses answer in their own form', async () => {
  peer.onGenerate = (request, res) => {
    if (request.input.kind === 'chat') return say(request, res, { content: 'Hello.' });
    json(res, 200, {
      object: 'text_completion',
      choices: [{ text: 'Hi.' }],
      usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
    });
  };
  const texts = await client.create([line('t', { model: BASE.id, prompt: 'x' }, '/v1/completions')], '/v1/completions');
  const responses = await client.create([line('r', { model: BASE.id, input: 'x' }, '/v1/responses')], '/v1/responses');
  const [text, response] = await Promise.all([client.until(texts.id, 'completed'), client.until(responses.id, 'completed')]);
  const completion = bodyOf((await client.answers(text.output_file_id)).get('t')) as unknown as OpenAI.Completion;
  assert.equal(completion.choices[0]?.text, 'Hi.');
  const answer = (await client.answers(response.output_file_id)).get('r');
  const object = bodyOf(answer) as unknown as OpenAI.Responses.Response;
  assert.deepEqual([object.object, object.status, object.id], ['response', 'completed', `resp_${answer?.response?.request_id.slice(4)}`]);
  assert.deepEqual([text.usage?.total_tokens, response.usage?.total_tokens], [3, 14]);
});

test('what a request does wrong is its own answer, in the error file', async () => {
  peer.onGenerate = (request, res) => {
    if (saidIn(request) !== 'long') return say(request, res, { content: 'ok' });
    json(res, 400, { error: { message: 'too long', type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' } });
  };
  const batch = await client.create([
    line('good', ask('x')),
    line('model', { ...ask('x'), model: 'nobody' }),
    line('field', ask('x', { temperature: 9 })),
    line('stream', ask('x', { stream: true })),
    line('long', ask('long')),
  ]);
  const done = await client.until(batch.id, 'completed');
  assert.deepEqual(done.request_counts, { total: 5, completed: 1, failed: 4 });
  const errors = await client.answers(done.error_file_id);
  const codes = [...errors].map(([id, { response }]) => {
    const { error } = response!.body as { error: { code: string; param: string } };
    return [id, response!.status_code, error.code, error.param];
  });
  assert.deepEqual(codes, [
    ['model', 404, 'model_not_found', 'model'],
    ['field', 400, null, 'temperature'],
    ['stream', 400, 'unsupported_value', 'stream'],
    ['long', 400, 'context_length_exceeded', 'messages'],
  ]);
  assert.deepEqual([...(await client.answers(done.output_file_id)).keys()], ['good']);
});

test('a file that is not a batch fails with the lines that are wrong', async () => {
  const good = JSON.stringify(line('a', ask('x')));
  const file = [
    good,
    '{"custom_id": "b",',
    good,
    JSON.stringify(line('c', ask('x'), '/v1/completions')),
    JSON.stringify({ ...line('d', ask('x')), method: 'GET' }),
    '',
    JSON.stringify({ method: 'POST', url: '/v1/chat/completions', body: {} }),
    '[]',
  ].join('\n');
  const failed = await client.until((await client.create(file)).id, 'failed');
  assert.deepEqual(
    failed.errors?.data?.map(({ line, code, param }) => [line, code, param]),
    [
      [2, 'invalid_json_line', null],
      [3, 'duplicate_custom_id', 'custom_id'],
      [4, 'invalid_url', 'url'],
      [5, 'invalid_request', 'method'],
      [7, 'invalid_request', 'custom_id'],
      [8, 'invalid_request', null],
    ],
  );
  assert.ok(failed.failed_at);
  assert.deepEqual([failed.output_file_id, failed.error_file_id], [null, null]);
  const empty = await client.until((await client.create('\n\n')).id, 'failed');
  assert.equal(empty.errors?.data?.[0]?.code, 'empty_file');
  const many = `${Array.from({ length: 50_001 }, (_, i) => JSON.stringify(line(`${i}`, {}))).join('\n')}\n`;
  const tooMany = await client.until((await client.create(many)).id, 'failed');
  assert.equal(tooMany.errors?.data?.[0]?.code, 'too_many_tasks');
  assert.equal(peer.generated.length, 0);
});

test('a few requests run at once, and cancelling stops them and keeps what is done', async () => {
  const waiting: ServerResponse[] = [];
  const ids: string[] = [];
  let most = 0;
  peer.onGenerate = (request, res) => {
    if (Number(saidIn(request)) < 3) return say(request, res, { content: 'done' });
    waiting.push(res);
    ids.push(request.request_id);
    most = Math.max(most, waiting.filter((r) => !r.closed).length);
  };
  const { id } = await client.create(Array.from({ length: 40 }, (_, i) => line(`c-${i}`, ask(String(i)))));
  while (waiting.length < 4) await sleep(20);
  await sleep(100);
  assert.equal(most, 4);
  const began = performance.now();
  assert.equal((await client.openai.batches.cancel(id)).status, 'cancelling');
  const done = await client.until(id, 'cancelled');
  assert.ok(performance.now() - began < 3_000);
  assert.ok(waiting.every((res) => res.closed));
  assert.deepEqual(peer.cancelled.toSorted(), ids.toSorted(), 'their worker is told, which would go on otherwise');
  assert.deepEqual(done.request_counts, { total: 40, completed: 3, failed: 0 });
  assert.deepEqual([...(await client.answers(done.output_file_id)).keys()], ['c-0', 'c-1', 'c-2']);
  const errors = await client.answers(done.error_file_id);
  assert.deepEqual([errors.size, errors.get('c-39')?.error?.code], [37, 'batch_cancelled']);
  assert.equal((await client.openai.batches.cancel(id)).status, 'cancelled');
});

test('a full worker is asked again later, one that breaks three times at most', async () => {
  const asked = new Map<string, number>();
  peer.onGenerate = (request, res) => {
    const content = saidIn(request);
    const times = (asked.get(content) ?? 0) + 1;
    asked.set(content, times);
    if (content === 'broken') return void res.destroy();
    if (times > 4) return say(request, res, { content: 'at last' });
    res.setHeader('retry-after', '0.05');
    json(res, 429, { error: { message: 'full', type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' } });
  };
  const batch = await client.create([line('full', ask('full')), line('broken', ask('broken'))]);
  const done = await client.until(batch.id, 'completed');
  assert.deepEqual(Object.fromEntries(asked), { full: 5, broken: 3 });
  assert.deepEqual(done.request_counts, { total: 2, completed: 1, failed: 1 });
  assert.equal((await client.answers(done.error_file_id)).get('broken')?.response?.status_code, 502);
  await peer.report(
    peer.generated
      .filter((g) => saidIn(g) === 'full')
      .slice(-1)
      .map((g) => usageOf(g, { prompt: 7, completion: 5 })),
  );
  const { body } = await stack.admin.get('/v1/admin/reconcile');
  assert.equal(
    body.data.find((r: { tenant: string }) => r.tenant === tenant.id).reserved,
    0,
    'nothing stays held for what nobody answered',
  );
});

test('half the price, on lines of its own; without credit a request fails by name', async () => {
  const poor = await stack.newTenant({ credit: 0.000_02 });
  client = new BatchClient(stack.edge.url, poor.key);
  peer.onGenerate = async (request, res) => {
    await peer.report([usageOf(request, { prompt: 100, completion: 20, cached: 40 })]);
    say(request, res, { content: 'ok' });
  };
  const first = await client.until((await client.create([line('a', ask('x'))])).id, 'completed');
  assert.equal(first.request_counts?.completed, 1);
  const invoice = (await poor.get(`/v1/invoices/${new Date().toISOString().slice(0, 7)}`)).body as { lines: Record<string, unknown>[] };
  assert.deepEqual(
    invoice.lines.map((l) => [l['unit'], l['quantity'], l['price_nano']]),
    [
      ['batch_cached_prompt_token', 40, 6],
      ['batch_completion_token', 20, 75],
      ['batch_prompt_token', 60, 25],
    ],
  );
  const second = await client.until((await client.create([line('a', ask('y'.repeat(400), { max_tokens: 400 }))])).id, 'completed');
  const { response } = (await client.answers(second.error_file_id)).get('a')!;
  assert.ok(response?.status_code === 429);
  assert.equal((response.body as { error: { code: string } }).error.code, 'insufficient_quota');
  assert.equal(peer.generated.length, 1);
});

test('what was lost on the way is not paid, whenever its usage is reported', async () => {
  let late: GenerateRequest | null = null;
  peer.onGenerate = async (request, res) => {
    if (peer.generated.length === 1) await peer.report([{ ...usageOf(request, { prompt: 7, completion: 3 }), outcome: 'crashed' }]);
    if (peer.generated.length === 2) late = request;
    if (peer.generated.length < 3) return void res.destroy();
    await peer.report([usageOf(request, { prompt: 7, completion: 5 })]);
    say(request, res, { content: 'at last' });
  };
  const { id } = await client.create([line('a', ask('x'))]);
  await client.until(id, 'completed');
  await peer.report([{ ...usageOf(late!, { prompt: 7, completion: 4 }), outcome: 'crashed' }]);
  const { total } = (await tenant.get('/v1/usage')).body;
  assert.deepEqual([total.requests, total.prompt_tokens, total.completion_tokens, total.cost_nano], [3, 21, 12, 7 * 25 + 5 * 75]);
  const { body } = await stack.admin.get('/v1/admin/reconcile');
  const row = body.data.find((r: { tenant: string }) => r.tenant === tenant.id);
  assert.deepEqual([row.settled, row.reserved], [33, 0]);
});

test('an answer larger than a value in SQLite may be comes out whole', async () => {
  const content = '😀'.repeat(1_000_001);
  peer.onGenerate = (request, res) => say(request, res, { content });
  const done = await client.until((await client.create([line('big', ask('x'))])).id, 'completed');
  const answer = bodyOf((await client.answers(done.output_file_id)).get('big'));
  assert.ok(answer.choices[0]?.message.content === content);
});

test('lists page by page; another tenant has none of it', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) ids.push((await client.create([line('a', ask('x'))])).id);
  const seen: string[] = [];
  for await (const batch of client.openai.batches.list({ limit: 2 })) seen.push(batch.id);
  assert.deepEqual(seen, ids.toReversed());
  const other = new BatchClient(stack.edge.url, (await stack.newTenant()).key);
  assert.deepEqual((await other.openai.batches.list()).data, []);
  const isNotFound = (error: unknown) => error instanceof OpenAI.NotFoundError;
  await assert.rejects(other.openai.batches.retrieve(ids[0]!), isNotFound);
  await assert.rejects(other.openai.batches.cancel(ids[0]!), isNotFound);
  const { input_file_id } = await client.openai.batches.retrieve(ids[0]!);
  const theirs = { input_file_id, endpoint: '/v1/chat/completions', completion_window: '24h' } as const;
  await assert.rejects(other.openai.batches.create(theirs), isNotFound);
  await client.until(ids[0]!, 'completed');
  await assert.rejects(client.openai.batches.cancel(ids[0]!), OpenAI.ConflictError);
});

test('refusals name the field', async () => {
  const { id: file } = await client.openai.files.create({ purpose: 'fine-tune', file: new File(['x'], 'f') });
  const asks = { input_file_id: file, endpoint: '/v1/chat/completions', completion_window: '24h' };
  const refused: [object, string, string | null][] = [
    [{}, 'input_file_id', null],
    [{ endpoint: '/v1/images/generations' }, 'endpoint', 'unsupported_value'],
    [{ completion_window: '48h' }, 'completion_window', null],
    [{ metadata: { a: 1 } }, 'metadata.a', null],
    [{ output_expires_after: { anchor: 'created_at', seconds: 1 } }, 'output_expires_after.seconds', null],
    [{ priority: 1 }, 'priority', 'unknown_parameter'],
  ];
  for (const [fields, param, code] of refused) {
    const answer = await tenant.post('/v1/batches', { ...asks, ...fields });
    assert.deepEqual([answer.status, answer.body.error.param, answer.body.error.code], [400, param, code], answer.text);
  }
});
