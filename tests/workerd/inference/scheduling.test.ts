/** What decides who is served first, from the outside: tiers, deadlines and tenants' weights reach the worker; tiers have their price. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { BatchClient, line } from '../support/batch.ts';
import { say, stream } from '../support/chat.ts';
import { BASE, json, Peer, usageOf } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
let peer: Peer;
let tenant: Caller & { id: string };
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
  peer.generated.length = 0;
  peer.onGenerate = (request, res) => say(request, res, { content: 'ok' });
});

const message = { role: 'user' as const, content: 'hi' };
const chatBody = { model: BASE.id, messages: [message] };
const openai = () => new OpenAI({ baseURL: `${stack.edge.url}/v1`, apiKey: tenant.key, maxRetries: 0 });

async function priorityOf(path: string, body: object): Promise<string> {
  const answer = await tenant.post(path, { model: BASE.id, ...body });
  assert.equal(answer.status, 200, answer.text);
  return peer.generated.at(-1)!.priority;
}

test('flex is batch priority on every route; auto and default are not', async () => {
  const routes: [string, object][] = [
    ['/v1/chat/completions', { messages: [message] }],
    ['/v1/completions', { prompt: 'x' }],
    ['/v1/responses', { input: 'x' }],
  ];
  for (const [path, body] of routes) {
    assert.equal(await priorityOf(path, { ...body, service_tier: 'flex' }), 'batch', path);
    assert.equal(peer.generated.at(-1)!.from_batch, false);
    for (const service_tier of ['auto', 'default', null, undefined])
      assert.equal(await priorityOf(path, { ...body, service_tier }), 'interactive', `${path} ${service_tier}`);
    for (const service_tier of ['priority', 'scale']) {
      const { status, body: refused } = await tenant.post(path, { model: BASE.id, ...body, service_tier });
      assert.deepEqual([status, refused.error.code, refused.error.param], [400, 'unsupported_value', 'service_tier']);
      assert.match(refused.error.message, new RegExp(`"${service_tier}"`));
    }
  }
});

test('a response says its tier, streamed ones from the first event on', async () => {
  const ask = { model: BASE.id, input: 'x' };
  assert.equal((await openai().responses.create({ ...ask, service_tier: 'flex' })).service_tier, 'flex');
  assert.equal((await openai().responses.create({ ...ask, service_tier: 'auto' })).service_tier, 'default');
  peer.onGenerate = (request, res) => {
    const answer = stream(request, res);
    answer.delta({ content: 'ok' });
    answer.end('stop');
  };
  for await (const event of await openai().responses.create({ ...ask, service_tier: 'flex', stream: true }))
    if (event.type === 'response.created' || event.type === 'response.completed') assert.equal(event.response.service_tier, 'flex');
});

test('flex is paid at the price of batches, and settled as it is reported', async () => {
  tenant = await stack.newTenant({ credit: 1 });
  peer.onGenerate = async (request, res) => {
    await peer.report([usageOf(request, { prompt: 100, completion: 20, cached: 40 })]);
    say(request, res, { content: 'ok' });
  };
  await openai().chat.completions.create({ ...chatBody, service_tier: 'flex' });
  const { total } = (await tenant.get('/v1/usage')).body;
  assert.deepEqual([total.requests, total.cost_nano], [1, 60 * 25 + 40 * 6 + 20 * 75]);
  const { body } = await stack.admin.get('/v1/admin/reconcile');
  const row = body.data.find((r: { tenant: string }) => r.tenant === tenant.id);
  assert.deepEqual([row.settled, row.reserved], [120, 0]);
});

test('a request of a batch has no tier of its own', async () => {
  const client = new BatchClient(stack.edge.url, tenant.key);
  const { id } = await client.create([line('a', { ...chatBody, service_tier: 'flex' }), line('b', { ...chatBody, service_tier: 'auto' })]);
  const done = await client.until(id, 'completed');
  assert.deepEqual([done.request_counts?.completed, done.request_counts?.failed], [1, 1]);
  const refused = (await client.answers(done.error_file_id)).get('a')?.response?.body as { error: { param: string; code: string } };
  assert.deepEqual([refused.error.param, refused.error.code], ['service_tier', 'unsupported_value']);
});

test("the official client's timeout becomes the deadline", async () => {
  const before = Date.now();
  // It says so only when the request sets one; 5.9 s are written as 5.
  await openai().chat.completions.create(chatBody, { timeout: 5_900 });
  const { deadline } = peer.generated.at(-1)!;
  assert.ok(deadline !== null && deadline >= before + 6_000 && deadline <= Date.now() + 6_000, String(deadline));
});

test('whoever may come back for an answer has no deadline, nor whose timeout cannot be read', async () => {
  const post = (headers: Record<string, string>) =>
    tenant.send('POST', '/v1/chat/completions', {
      body: JSON.stringify(chatBody),
      headers: { 'content-type': 'application/json', ...headers },
    });
  for (const headers of [{ 'x-stainless-timeout': '9', 'idempotency-key': 'k' }, { 'x-stainless-timeout': 'soon' }]) {
    assert.equal((await post(headers as Record<string, string>)).status, 200);
    assert.equal(peer.generated.at(-1)!.deadline, null);
  }
});

test('what expired at the worker is 503 with the time to come back', async () => {
  const error = { message: 'generate: the deadline passed before it began', type: 'server_error', param: null, code: 'unavailable' };
  peer.onGenerate = (_, res) => {
    res.setHeader('retry-after', '1');
    json(res, 503, { error });
  };
  const { status, headers, body } = await tenant.post('/v1/chat/completions', chatBody);
  assert.deepEqual([status, headers.get('retry-after'), body.error], [503, '1', error]);
});

test("a tenant's weight is set, shown, changed, and sent with its requests, those of batches too", async () => {
  const made = await stack.admin.post('/v1/admin/tenants', { name: 'heavy', weight: 2.5 });
  assert.deepEqual([made.status, made.body.weight], [201, 2.5]);
  const path = `/v1/admin/tenants/${made.body.id}`;
  const auth = { authorization: `Bearer ${made.body.key}` };
  const me = async () => (await stack.nobody.send('GET', '/v1/me', { headers: auth })).body.tenant;
  assert.equal((await me()).weight, 2.5);
  const ask = async () => {
    const headers = { ...auth, 'content-type': 'application/json' };
    await stack.nobody.send('POST', '/v1/chat/completions', { body: JSON.stringify(chatBody), headers });
    return peer.generated.at(-1)!.tenant_weight;
  };
  assert.equal(await ask(), 2.5);

  const patch = (body: object) =>
    stack.admin.send('PATCH', path, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  const { status, body: changed } = await patch({ weight: 0.01 });
  assert.deepEqual([status, changed.name, changed.weight], [200, 'heavy', 0.01]);
  assert.equal((await patch({ name: 'light' })).body.weight, 0.01);
  assert.deepEqual((await stack.admin.get(path)).body, await me());
  const client = new BatchClient(stack.edge.url, made.body.key);
  await client.until((await client.create([line('a', chatBody)])).id, 'completed');
  assert.equal(peer.generated.at(-1)!.tenant_weight, 0.01);
  await sleep(5_100); // keys are remembered for 5 s
  assert.equal(await ask(), 0.01);
});

test('weights out of range, changes of nothing and of other fields are refused; other tenants are 404', async () => {
  const patch = (id: string, body: object, caller: Caller = stack.admin) =>
    caller.send('PATCH', `/v1/admin/tenants/${id}`, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  for (const weight of [0, 0.009, 1000.1, -1, '2', null]) {
    const { status, body } = await patch(tenant.id, { weight });
    assert.deepEqual([status, body.error.param], [400, 'weight'], String(weight));
  }
  assert.equal((await stack.admin.post('/v1/admin/tenants', { name: 'x', weight: 2000 })).status, 400);
  assert.equal((await patch(tenant.id, {})).status, 400);
  assert.equal((await patch(tenant.id, { credit: 5 })).body.error.code, 'unknown_parameter');
  assert.equal((await patch('ten_0000000000000000', { weight: 2 })).status, 404);
  assert.equal((await patch(tenant.id, { weight: 2 }, tenant)).status, 403);
  assert.equal((await stack.admin.get(`/v1/admin/tenants/${tenant.id}`)).body.weight, 1);
});
