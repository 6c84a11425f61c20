/** /v1/embeddings at the edge: OpenAI's forms of input, what is refused, the bill, and bases that do something else. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Batch } from 'openai/resources';
import type { BaseInfo, EmbedRequest } from '../../../shared/contract/worker.ts';
import { BatchClient, line } from '../support/batch.ts';
import { BASE, json, Peer, sha256 } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';

const ENCODER: BaseInfo = {
  ...BASE,
  id: 'tiny-bert',
  revision: sha256('tiny-bert'),
  family: 'bert',
  task: 'embed',
  has_chat_template: false,
};

let stack: Stack;
let decoder: Peer;
let encoder: Peer;
let tenant: Caller;
before(async () => {
  stack = await startStack();
  decoder = await Peer.start(stack.edge.url);
  encoder = await Peer.start(stack.edge.url, 'peer-2', [ENCODER]);
  encoder.onEmbed = (request, res) => json(res, 200, answerTo(request));
  tenant = await stack.newTenant();
});
after(async () => {
  await Promise.all([decoder.stop(), encoder.stop()]);
  await stack.stop();
});

const answerTo = ({ model, inputs, request_id, base_revision }: EmbedRequest) => ({
  object: 'list',
  data: inputs.map((_, index) => ({ object: 'embedding', index, embedding: [1] })),
  model,
  usage: { prompt_tokens: 3 * inputs.length, total_tokens: 3 * inputs.length },
  switchyard: { request_id, base_revision, precision: 'fp32', adapters: [], worker: 'peer-2', prefix_cached_tokens: 0 },
});

const embed = (more: object = {}) => tenant.post('/v1/embeddings', { model: ENCODER.id, input: 'hi', ...more });

const inputs: [string, unknown, unknown][] = [
  ['a string', 'hi', ['hi']],
  ['strings', ['a', 'b'], ['a', 'b']],
  ['token ids', [1, 2], [[1, 2]]],
  ['arrays of token ids', [[1], [2, 3]], [[1], [2, 3]]],
];
for (const [what, input, expected] of inputs) {
  test(`input: ${what}`, async () => {
    const answer = await embed({ input });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const request = encoder.embedded.at(-1)!;
    assert.deepEqual(request.inputs, expected);
    assert.equal(request.request_id, answer.headers.get('x-request-id'));
    assert.deepEqual(
      (answer.body as { data: { index: number }[] }).data.map(({ index }) => index),
      request.inputs.map((_, i) => i),
    );
  });
}

test('a request reaches the worker with every field', async () => {
  await embed({ encoding_format: 'base64', dimensions: 16, user: 'u' });
  const { request_id: _, tenant: __, key_id: ___, ...rest } = encoder.embedded.at(-1)!;
  assert.deepEqual(rest, {
    ...{ model: ENCODER.id, base: ENCODER.id, base_revision: ENCODER.revision, adapters: [], inputs: ['hi'] },
    ...{ encoding_format: 'base64', dimensions: 16, priority: 'interactive', from_batch: false, tenant_weight: 1, deadline: null },
  });
});

const refused: [string, object, string][] = [
  ['no text', { input: '' }, 'input'],
  ['no texts', { input: [] }, 'input'],
  ['an empty text among others', { input: ['a', ''] }, 'input'],
  ['more than 2048 inputs', { input: Array.from({ length: 2049 }, () => 'a') }, 'input'],
  ['texts beside token ids', { input: ['a', 1] }, 'input'],
  ['another format', { encoding_format: 'int8' }, 'encoding_format'],
  ['no dimensions', { dimensions: 0 }, 'dimensions'],
  ['an unknown field', { truncate: true }, 'truncate'],
];
for (const [what, more, param] of refused) {
  test(`refused: ${what}`, async () => {
    const before = encoder.embedded.length;
    const { status, body } = await embed(more);
    assert.equal(status, 400, JSON.stringify(body));
    assert.equal((body as { error: { param: string } }).error.param.split('.')[0], param);
    assert.equal(encoder.embedded.length, before);
  });
}

test('a base is asked for what it does: the endpoints that fit are named', async () => {
  const errorOf = (body: unknown) => (body as { error: { message: string; param: string; code: string } }).error;
  const embedding = await tenant.post('/v1/embeddings', { model: BASE.id, input: 'hi' });
  assert.equal(embedding.status, 400);
  assert.match(errorOf(embedding.body).message, /"tiny-base" generates text: use \/v1\/chat\/completions/);
  for (const [path, body] of Object.entries({
    '/v1/chat/completions': { messages: [{ role: 'user', content: 'hi' }] },
    '/v1/completions': { prompt: 'hi' },
    '/v1/responses': { input: 'hi' },
  })) {
    const answer = await tenant.post(path, { model: ENCODER.id, ...body });
    assert.equal(answer.status, 400);
    const { message, param, code } = errorOf(answer.body);
    assert.match(message, /"tiny-bert" makes embeddings: use \/v1\/embeddings/);
    assert.deepEqual([param, code], ['model', 'unsupported_value']);
  }
});

test('an idempotency key: computed once, replayed after', async () => {
  const count = encoder.embedded.length;
  const headers = { 'content-type': 'application/json', 'idempotency-key': 'embed-1' };
  const ask = () => tenant.send('POST', '/v1/embeddings', { headers, body: JSON.stringify({ model: ENCODER.id, input: 'hi' }) });
  const first = await ask();
  for (let i = 0; i < 50; i++) {
    const again = await ask();
    if (again.status === 409) continue;
    assert.equal(again.headers.get('idempotent-replayed'), 'true');
    assert.deepEqual(again.body, first.body);
    break;
  }
  assert.equal(encoder.embedded.length, count + 1);
});

test('a metered tenant: the hold bounds the bill, and a refusal of the worker gives it back', async () => {
  const poor = await stack.newTenant({ credit: 0.000_000_2 });
  const ask = (input: string) => poor.post('/v1/embeddings', { model: ENCODER.id, input });
  assert.equal((await ask('x'.repeat(100))).status, 429);
  encoder.onEmbed = (_, res) => json(res, 400, { error: { message: 'no', type: 'invalid_request_error', param: null, code: null } });
  assert.equal((await ask('a')).status, 400);
  assert.equal((await ask('a')).status, 400);
  encoder.onEmbed = (request, res) => json(res, 200, answerTo(request));
  assert.equal((await ask('a')).status, 200);
});

test('a batch of embeddings', async () => {
  const client = new BatchClient(stack.edge.url, tenant.key);
  const lines = ['a', 'b'].map((id) => line(id, { model: ENCODER.id, input: [id, id] }, '/v1/embeddings'));
  const wrong = line('c', { model: BASE.id, input: 'x' }, '/v1/embeddings');
  const { id } = await client.create([...lines, wrong], '/v1/embeddings');
  const done: Batch = await client.until(id, 'completed');
  assert.deepEqual(done.request_counts, { total: 3, completed: 2, failed: 1 });
  assert.equal(done.usage?.total_tokens, 12);
  const answers = await client.answers(done.output_file_id);
  assert.equal((answers.get('a')!.response!.body as ReturnType<typeof answerTo>).data.length, 2);
  assert.ok(encoder.embedded.slice(-2).every((request) => request.from_batch && request.priority === 'batch'));
  assert.equal((await client.answers(done.error_file_id)).get('c')?.response?.status_code, 400);
});

test('both kinds of bases are listed', async () => {
  const { body } = await tenant.get('/v1/models');
  assert.deepEqual((body as { data: { id: string }[] }).data.map(({ id }) => id).sort(), [BASE.id, ENCODER.id].sort());
});
