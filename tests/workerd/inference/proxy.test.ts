/** Between client and worker: what passes through, and what happens when either side breaks off. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BASE, json, Peer, sha256 } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';
import { upload } from '../support/upload.ts';

const OTHER = { ...BASE, id: 'other-base', revision: sha256('other-base') };

let stack: Stack;
let tenant: Caller;
let peer: Peer;
before(async () => {
  stack = await startStack();
  tenant = await stack.newTenant();
  peer = await Peer.start(stack.edge.url, 'peer', [BASE, OTHER]);
});
after(async () => {
  await peer.stop();
  await stack.stop();
});

function open(body: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${stack.edge.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: BASE.id, prompt: 'x', ...body }),
    ...(signal ? { signal } : {}),
  });
}

test('a JSON answer passes through with the request id and the time it took', async () => {
  peer.onGenerate = (_, res) => json(res, 200, { choices: [{ text: 'é' }] });
  const answer = await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x' });
  assert.deepEqual(answer.body, { choices: [{ text: 'é' }] });
  assert.equal(answer.headers.get('x-request-id'), peer.generated.at(-1)!.request_id);
  assert.match(answer.headers.get('openai-processing-ms') ?? '', /^\d+$/);
});

test('chunks of a stream arrive as they are sent, not at the end', async () => {
  let worker!: ServerResponse;
  const asked = new Promise<void>((resolve) => {
    peer.onGenerate = (_, res) => {
      worker = res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
      worker.write('data: 0\n\n');
      resolve();
    };
  });
  const response = await open({ stream: true });
  await asked;
  assert.equal(response.headers.get('content-type'), 'text/event-stream');
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (let i = 0; i < 3; i++) {
    // The worker sends a chunk only after the client has the one before.
    assert.equal((await reader.read()).value, `data: ${i}\n\n`);
    worker.write(`data: ${i + 1}\n\n`);
  }
  worker.end();
  assert.equal((await reader.read()).value, 'data: 3\n\n');
  assert.equal((await reader.read()).done, true);
});

for (const stream of [true, false]) {
  test(`a client that leaves ${stream ? 'in a stream' : 'before the answer'} aborts the request at the worker`, async () => {
    const asked = new Promise<ServerResponse>((resolve) => {
      peer.onGenerate = (_, res) => {
        if (stream) res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 0\n\n');
        resolve(res);
      };
    });
    const client = new AbortController();
    const response = open({ stream }, client.signal);
    response.catch(() => undefined);
    const worker = await asked;
    if (stream) await (await response).body!.getReader().read();
    const closed = once(worker, 'close');
    const beat = setInterval(() => stream && worker.write('data: 1\n\n'), 20);
    client.abort();
    await Promise.race([closed, sleep(3_000, undefined, { ref: false }).then(() => assert.fail('the worker was left working'))]);
    clearInterval(beat);
    assert.equal(worker.writableFinished, false);
  });
}

test('a refusal of the worker passes through with its status and form', async () => {
  const refusal = { error: { message: 'too long', type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' } };
  peer.onGenerate = (_, res) => json(res, 400, refusal);
  const answer = await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x' });
  assert.equal(answer.status, 400);
  assert.deepEqual(answer.body, refusal);
});

test('a stream that the worker breaks off ends without [DONE]', async () => {
  peer.onGenerate = async (_, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 0\n\n');
    await sleep(50);
    res.destroy();
  };
  const response = await open({ stream: true });
  const text = await response.text().catch((error: unknown) => String(error));
  assert.ok(!text.includes('[DONE]'));
});

test('names resolve to digests of the caller: newest version, a given version, mixtures', async () => {
  peer.onGenerate = (_, res) => json(res, 200, {});
  const first = await upload(tenant, { name: 'one', base: BASE.id });
  const second = await upload(tenant, {}, undefined, '/v1/adapters/one/versions');
  const two = await upload(tenant, { name: 'two', base: BASE.id });
  await upload(tenant, { name: 'elsewhere', base: OTHER.id });
  const ask = async (body: object) => {
    const answer = await tenant.post('/v1/completions', { prompt: 'x', ...body });
    return answer.status === 200 ? peer.generated.at(-1)! : answer;
  };
  const digests = async (body: object) => ((await ask(body)) as { adapters: unknown }).adapters;
  assert.deepEqual(await digests({ model: 'one' }), [{ digest: second.body.digest, weight: 1 }]);
  assert.deepEqual(await digests({ model: 'one@1' }), [{ digest: first.body.digest, weight: 1 }]);
  const mixture = [
    { model: 'one@2', weight: 0.5 },
    { model: 'two', weight: -1 },
  ];
  assert.deepEqual(await digests({ model: BASE.id, adapters: mixture }), [
    { digest: second.body.digest, weight: 0.5 },
    { digest: two.body.digest, weight: -1 },
  ]);
  assert.equal(((await ask({ model: 'one@1' })) as { model: string }).model, 'one@1');
  const wrong = [
    [{ model: 'one@3' }, 404, 'model'],
    [{ model: 'one', adapters: mixture }, 400, 'model'],
    [{ model: OTHER.id, adapters: mixture }, 400, 'adapters.0.model'],
    [{ model: BASE.id, adapters: [{ model: 'none', weight: 1 }] }, 404, 'adapters.0.model'],
  ] as const;
  for (const [body, status, param] of wrong) {
    const answer = (await ask(body)) as Awaited<ReturnType<Caller['get']>>;
    assert.deepEqual([answer.status, answer.body?.error?.param], [status, param]);
  }
});

test("the client's trace goes on to the worker under the request's id; without one the edge begins a trace", async () => {
  const trace = '0af7651916cd43dd8448eb211c80319c';
  const ask = (headers: Record<string, string>) =>
    tenant.send('POST', '/v1/completions', {
      body: JSON.stringify({ model: BASE.id, prompt: 'x' }),
      headers: { 'content-type': 'application/json', ...headers },
    });
  peer.headers.length = 0;
  const given = await ask({ traceparent: `00-${trace}-b7ad6b7169203331-00` });
  const [first] = peer.headers.splice(0);
  assert.match(String(first!['traceparent']), new RegExp(`^00-${trace}-(?!b7ad6b7169203331)[0-9a-f]{16}-00$`));
  assert.equal(first!['x-request-id'], given.headers.get('x-request-id'));
  assert.equal(given.headers.get('traceparent'), null, 'answers carry no trace');
  await ask({ traceparent: 'nonsense' });
  const [second] = peer.headers.splice(0);
  assert.match(String(second!['traceparent']), /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
});
