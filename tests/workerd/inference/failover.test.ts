/** Workers that die: the next one takes over, or the client is told at once. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BASE, Peer } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';
import { upload } from '../support/upload.ts';

let stack: Stack;
let tenant: Caller;
beforeEach(async () => {
  stack = await startStack();
  tenant = await stack.newTenant();
});
afterEach(() => stack.stop());

const complete = () => tenant.post('/v1/completions', { model: BASE.id, prompt: 'x' });

test('a worker that died takes nothing with it: the next one gets the same request', async () => {
  const [a, b] = [await Peer.start(stack.edge.url, 'a'), await Peer.start(stack.edge.url, 'b')];
  await complete();
  const [first, second] = a.generated.length > 0 ? [a, b] : [b, a];
  await first.stop();
  const answer = await complete();
  assert.equal(answer.status, 200);
  assert.equal(second.generated.at(-1)!.request_id, answer.headers.get('x-request-id'));
  await second.stop();
});

test('when the last worker died the answer is 503 at once, and a new one serves as soon as it registers', async () => {
  const peer = await Peer.start(stack.edge.url, 'last');
  await peer.stop();
  const began = performance.now();
  const answer = await complete();
  assert.equal(answer.status, 503);
  assert.ok(answer.headers.has('retry-after'));
  assert.ok(performance.now() - began < 2_000);
  const next = await Peer.start(stack.edge.url, 'next');
  assert.equal((await complete()).status, 200);
  await next.stop();
});

test('of two bases the one without a worker is unavailable, not unknown, and the stack is not ready', async () => {
  const other = { ...BASE, id: 'other-base', revision: 'c'.repeat(64) };
  const [stays, leaves] = [await Peer.start(stack.edge.url, 'stays'), await Peer.start(stack.edge.url, 'leaves', [other])];
  const ask = (body: object) => tenant.post('/v1/completions', { prompt: 'x', ...body });
  assert.equal((await ask({ model: other.id })).status, 200);
  assert.equal((await upload(tenant, { name: 'of-other', base: other.id })).status, 201);
  await leaves.stop();
  const deadline = Date.now() + 9_000;
  while ((await tenant.get('/v1/models')).body.data.some((m: { id: string }) => m.id === other.id)) {
    assert.ok(Date.now() < deadline, 'still listed');
    await sleep(250);
  }
  for (const body of [{ model: other.id }, { model: 'of-other' }, { model: other.id, adapters: [{ model: 'of-other', weight: 1 }] }]) {
    const answer = await ask(body);
    assert.equal(answer.status, 503, answer.text);
    assert.ok(answer.headers.has('retry-after'));
  }
  assert.equal((await ask({ model: 'never-seen' })).status, 404);
  assert.equal((await stack.nobody.get('/ready')).status, 503);
  assert.equal((await upload(tenant, { name: 'late', base: other.id })).status, 503);
  assert.equal((await upload(tenant, { name: 'late' })).body.error.param, 'base');
  assert.equal((await ask({ model: BASE.id })).status, 200);
  await leaves.heartbeat();
  assert.equal((await stack.nobody.get('/ready')).status, 200);
  await stays.stop();
});

test('a worker is forgotten when its heartbeats stop', async () => {
  const peer = await Peer.start(stack.edge.url, 'silent');
  assert.equal((await stack.nobody.get('/ready')).status, 200);
  await peer.stop();
  const deadline = Date.now() + 9_000;
  while ((await stack.nobody.get('/ready')).status === 200) {
    assert.ok(Date.now() < deadline, 'still listed');
    await sleep(250);
  }
  assert.deepEqual((await tenant.get('/v1/models')).body.data, []);
});
