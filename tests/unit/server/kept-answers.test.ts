/** A batch's request outlives its connection: it is generated once, and its answer waits for the edge to come back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KeptAnswers } from '../../../gpu-worker/server/kept-answers.ts';
import { signCall } from '../../../shared/contract/signature.ts';
import { byteText } from './byte-tokens.ts';
import { done, generateRequest, type Played, playedEngine, SECRET, startWorker } from './worker-double.ts';

/** An engine that keeps what was submitted; `finish` ends it. */
function waitingEngine() {
  const submitted: Played[] = [];
  const first = Promise.withResolvers<Played>();
  const engine = playedEngine((played) => {
    submitted.push(played);
    first.resolve(played);
  });
  return { engine, submitted, first: first.promise };
}

const finish = ({ step }: Played) =>
  step(
    { type: 'tokens', sequence: 0, ids: [72], text: 'H', logprobs: null },
    { type: 'finish', sequence: 0, reason: 'stop', text: '' },
    done(3, 1),
  );

const batch = generateRequest({ priority: 'batch', from_batch: true });

async function call(url: string, path: string, requestId: string): Promise<Response> {
  const body = new TextEncoder().encode(JSON.stringify({ request_id: requestId }));
  const authorization = await signCall(SECRET, 'edge', 'worker', { method: 'POST', path, body });
  return await fetch(url + path, { method: 'POST', headers: { authorization }, body });
}

const contentOf = async (response: Response) =>
  ((await response.json()) as { choices: { message: { content: string } }[] }).choices[0]?.message.content;

test('whoever comes back gets the answer, whether it was done by then or not', async () => {
  const { engine, submitted, first } = waitingEngine();
  await using worker = await startWorker(engine, byteText());
  const client = new AbortController();
  const left = worker.generate(batch, client.signal).catch(() => null);
  const played = await first;
  client.abort();
  assert.equal(await left, null);
  const cancelled = await Promise.race([played.cancelled.then(() => true), sleep(100).then(() => false)]);
  assert.equal(cancelled, false, 'the request goes on without its connection');

  const early = call(worker.url, '/answer', batch.request_id);
  const again = worker.generate(batch);
  finish(played);
  for (const response of [await early, await again, await call(worker.url, '/answer', batch.request_id)])
    assert.equal(await contentOf(response), 'H');
  assert.equal(submitted.length, 1);
});

for (const priority of ['interactive', 'batch'] as const) {
  test(`a request of its own ends with its connection: ${priority}`, async () => {
    const { engine, first } = waitingEngine();
    await using worker = await startWorker(engine, byteText());
    const client = new AbortController();
    const left = worker.generate(generateRequest({ priority }), client.signal).catch(() => null);
    const played = await first;
    client.abort();
    await Promise.all([left, played.cancelled]);
  });
}

test('cancelling ends it; what was never here is 404', async () => {
  const { engine, first } = waitingEngine();
  await using worker = await startWorker(engine, byteText());
  const asked = worker.generate(batch);
  const played = await first;
  assert.equal((await call(worker.url, '/cancel', batch.request_id)).status, 204);
  await played.cancelled;
  played.step({ type: 'finish', sequence: 0, reason: 'cancelled', text: '' }, { ...(done(3, 0) as object), outcome: 'cancelled' } as never);
  assert.equal((await asked).status, 502);
  assert.equal((await call(worker.url, '/answer', batch.request_id)).status, 404);
  assert.equal((await call(worker.url, '/cancel', 'req_00000000000000000000000z')).status, 204);
});

test('answers take no more room than there is: the oldest leave, running ones stay', async () => {
  const kept = new KeptAnswers();
  const running = kept.once('running', () => new Promise(() => undefined));
  for (let i = 0; i < 8; i++) await kept.once(`${i}`, async () => 'x'.repeat(10_000_000));
  assert.deepEqual(
    ['0', '1', '2', '7'].map((id) => kept.find(id) !== null),
    [false, false, true, true],
  );
  assert.equal(kept.find('running'), running);
  await assert.rejects(kept.once('failed', () => Promise.reject(new Error('no'))));
  assert.equal(kept.find('failed'), null);
});
