/** Idempotency-Key: one generation and one charge, however often the client asks. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BASE, json, Peer } from '../support/peer.ts';
import { type Answer, type Caller, type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
let peer: Peer;
let tenant: Caller;
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
  peer.onGenerate = (_, res) => json(res, 200, { answer: peer.generated.length });
});

const ask = (key: string, body: object = {}, signal?: AbortSignal): Promise<Answer> =>
  tenant.send('POST', '/v1/completions', {
    headers: { 'content-type': 'application/json', 'idempotency-key': key },
    body: JSON.stringify({ model: BASE.id, prompt: 'x', ...body }),
    ...(signal ? { signal } : {}),
  });

/** Asks until the answer is no longer 409. */
async function settled(key: string, body: object = {}): Promise<Answer> {
  for (let i = 0; i < 100; i++) {
    const answer = await ask(key, body);
    if (answer.status !== 409) return answer;
    await sleep(50);
  }
  return assert.fail('still running');
}

test('the same key and body replay the first answer', async () => {
  const first = await ask('k');
  const again = await settled('k');
  assert.equal(again.text, first.text);
  assert.equal(again.headers.get('x-request-id'), first.headers.get('x-request-id'));
  assert.equal(again.headers.get('idempotent-replayed'), 'true');
  assert.equal(peer.generated.length, 1);
  await ask('other');
  assert.equal(peer.generated.length, 2);
});

test('a stream is replayed byte for byte', async () => {
  peer.onGenerate = async (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < 3; i++) {
      res.write(`data: ${i}\n\n`);
      await sleep(10);
    }
    res.end('data: [DONE]\n\n');
  };
  const first = await ask('s', { stream: true });
  const again = await settled('s', { stream: true });
  assert.equal(again.text, first.text);
  assert.equal(again.headers.get('content-type'), 'text/event-stream');
  assert.equal(peer.generated.length, 1);
});

test('409 while it runs, 400 with another body, a malformed key is refused', async () => {
  const asked = new Promise<ServerResponse>((resolve) => {
    peer.onGenerate = (_, res) => resolve(res);
  });
  const first = ask('r');
  const worker = await asked;
  const second = await ask('r');
  assert.deepEqual([second.status, second.body.error.code], [409, 'idempotency_key_in_use']);
  assert.equal((await ask('r', { prompt: 'y' })).body.error.code, 'idempotency_key_reused');
  json(worker, 200, {});
  assert.equal((await first).status, 200);
  assert.equal(peer.generated.length, 1);
  assert.equal((await ask('a b')).status, 400);
});

test('a client that leaves finds its answer when it comes back', async () => {
  const asked = new Promise<ServerResponse>((resolve) => {
    peer.onGenerate = (_, res) => resolve(res);
  });
  const client = new AbortController();
  const left = ask('l', {}, client.signal).catch(() => null);
  const worker = await asked;
  client.abort();
  assert.equal(await left, null);
  await sleep(100);
  assert.equal(worker.destroyed, false, 'the worker goes on');
  json(worker, 200, { late: true });
  assert.deepEqual((await settled('l')).body, { late: true });
  assert.equal(peer.generated.length, 1);
});

test('a failed request frees its key; keys of tenants are apart', async () => {
  peer.onGenerate = (_, res) => json(res, 503, { error: { message: 'full', type: 'server_error', param: null, code: 'unavailable' } });
  assert.equal((await ask('f')).status, 503);
  peer.onGenerate = (_, res) => json(res, 200, {});
  assert.equal((await ask('f')).status, 200);
  tenant = await stack.newTenant();
  const { headers } = await ask('f');
  assert.equal(headers.get('idempotent-replayed'), null);
  assert.equal(peer.generated.length, 3);
});
