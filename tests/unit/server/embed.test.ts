/** POST /embed answers in OpenAI's form, field for field; what does not fit is refused, and who leaves is not worked for. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { AdapterTier } from '../../../gpu-worker/server/adapter-tier.ts';
import { embedHandler } from '../../../gpu-worker/server/embed.ts';
import { createHttpServer } from '../../../gpu-worker/server/http.ts';
import { KeptAnswers, keptRoutes } from '../../../gpu-worker/server/kept-answers.ts';
import { createMeasures } from '../../../gpu-worker/server/metrics.ts';
import type { EmbeddingEvent, Engine, EngineWork } from '../../../shared/contract/engine.ts';
import { signCall } from '../../../shared/contract/signature.ts';
import type { BaseInfo, EmbedRequest } from '../../../shared/contract/worker.ts';
import { BASE as DECODER, done, playedEngine, SECRET } from './worker-double.ts';

const BASE: BaseInfo = { ...DECODER, id: 'tiny-bert', family: 'bert', task: 'embed', context_length: 8 };
const VECTOR = [0.6, 0, 0.8, 0];

type Play = (work: EngineWork, send: (...events: EmbeddingEvent[]) => void, cancelled: Promise<void>) => void;

const answering: Play = ({ prompts }, send) => {
  // Not in order: a request's texts may be spread over steps.
  for (const prompt of [...prompts.keys()].reverse())
    send({ type: 'embedding', prompt, values: Float32Array.from(VECTOR, (x) => x * (prompt % 2 ? -1 : 1)) });
  send(done(prompts.flat().length, 0) as EmbeddingEvent);
};

async function startWorker(play: Play, withText = true) {
  const works: EngineWork[] = [];
  const engine: Engine = {
    ...playedEngine(() => {}),
    base: BASE,
    embed(work, onEvents) {
      works.push(work);
      const cancelled = Promise.withResolvers<void>();
      play(work, (...events) => setImmediate(() => onEvents(events)), cancelled.promise);
      return { cancel: cancelled.resolve };
    },
  };
  const measures = createMeasures(engine);
  const images = { load: () => Promise.reject(new Error('no adapters here')) };
  const adapters = new AdapterTier({ engine, images, observer: measures.tier, budget: 1000 });
  const text = withText ? { encode: (line: string) => [101, ...Buffer.from(line), 102] } : null;
  const kept = new KeptAnswers();
  const ended = { count: 0 };
  const onEnded = () => void ended.count++;
  const handle = embedHandler({ worker: 'wrk_test', engine, adapters, text, width: VECTOR.length, kept, measures, onEnded });
  const routes = [{ method: 'POST' as const, path: '/embed', signed: true, handle }, ...keptRoutes(kept)];
  const server = createHttpServer({ secret: SECRET, onError: () => {}, onEnd: () => {}, routes });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    works,
    ended,
    async post(path: string, value: object, signal: AbortSignal | null = null) {
      const body = new TextEncoder().encode(JSON.stringify(value));
      const authorization = await signCall(SECRET, 'edge', 'worker', { method: 'POST', path, body });
      return await fetch(url + path, { method: 'POST', headers: { authorization }, body, signal });
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const embedRequest = (more: Partial<EmbedRequest> = {}): EmbedRequest => ({
  request_id: 'req_000000000000000000000001',
  tenant: 'ten_aaaaaaaaaaaaaaaa',
  key_id: 'key',
  model: 'tiny-bert',
  base: BASE.id,
  base_revision: BASE.revision,
  adapters: [],
  inputs: ['ab'],
  dimensions: null,
  encoding_format: 'float',
  priority: 'interactive',
  from_batch: false,
  tenant_weight: 1,
  deadline: null,
  ...more,
});

interface Body {
  data: { index: number; embedding: number[] | string }[];
  usage: object;
  error: { message: string; param: string | null; code: string | null };
}

test('texts and token ids, each a vector in its place', async () => {
  await using worker = await startWorker(answering);
  const response = await worker.post('/embed', embedRequest({ inputs: ['ab', [1, 2, 3]] }));
  assert.equal(response.status, 200);
  assert.deepEqual(worker.works[0]!.prompts, [
    [101, 97, 98, 102],
    [1, 2, 3],
  ]);
  const body = (await response.json()) as Body;
  const vector = [...Float32Array.from(VECTOR)];
  assert.deepEqual(body, {
    object: 'list',
    data: [
      { object: 'embedding', index: 0, embedding: vector },
      { object: 'embedding', index: 1, embedding: vector.map((x) => (x === 0 ? 0 : -x)) },
    ].map((entry) => JSON.parse(JSON.stringify(entry))),
    model: 'tiny-bert',
    usage: { prompt_tokens: 7, total_tokens: 7 },
    switchyard: {
      request_id: 'req_000000000000000000000001',
      base_revision: BASE.revision,
      precision: 'fp32',
      adapters: [],
      worker: 'wrk_test',
      prefix_cached_tokens: 0,
    },
  });
  assert.equal(worker.ended.count, 1);
});

test('base64 holds float32 numbers; fewer dimensions have length 1 again', async () => {
  await using worker = await startWorker(answering);
  const response = await worker.post('/embed', embedRequest({ encoding_format: 'base64', dimensions: 1 }));
  const { embedding } = ((await response.json()) as Body).data[0]!;
  const bytes = Buffer.from(embedding as string, 'base64');
  assert.equal(bytes.length, 4);
  assert.equal(bytes.readFloatLE(0), 1);
});

const refused: [string, Partial<EmbedRequest>, RegExp, string, string | null][] = [
  ['a text that is too long', { inputs: ['ab', 'abcdefg'] }, /8 tokens; input 1 has 9/, 'input', 'context_length_exceeded'],
  ['a text that is too long to be read', { inputs: ['a'.repeat(3000)] }, /input 0 has 3000 bytes/, 'input', 'context_length_exceeded'],
  ['too many token ids', { inputs: [[1, 2, 3, 4, 5, 6, 7, 8, 9]] }, /input 0 has 9/, 'input', 'context_length_exceeded'],
  ['an unknown token id', { inputs: [[256]] }, /under 256, got 256 in input 0/, 'input', null],
  ['more dimensions than there are', { dimensions: 5 }, /vectors of 4 numbers, got 5/, 'dimensions', null],
];
for (const [what, more, message, param, code] of refused) {
  test(`refused: ${what}`, async () => {
    await using worker = await startWorker(answering);
    const response = await worker.post('/embed', embedRequest(more));
    const { error } = (await response.json()) as Body;
    assert.equal(response.status, 400);
    assert.match(error.message, message);
    assert.deepEqual([error.param, error.code], [param, code]);
    assert.equal(worker.works.length, 0);
  });
}

test('refused: text where there is no tokenizer', async () => {
  await using worker = await startWorker(answering, false);
  const { error } = (await (await worker.post('/embed', embedRequest())).json()) as Body;
  assert.deepEqual([error.param, error.code], ['input', 'unsupported_value']);
  assert.equal((await worker.post('/embed', embedRequest({ inputs: [[1]] }))).status, 200);
});

test('another revision of the base is somewhere else', async () => {
  await using worker = await startWorker(answering);
  assert.equal((await worker.post('/embed', embedRequest({ base_revision: 'c'.repeat(64) }))).status, 503);
});

test('a client that leaves cancels', async () => {
  const began = Promise.withResolvers<{ cancelled: Promise<void> }>();
  await using worker = await startWorker((_, __, cancelled) => began.resolve({ cancelled }));
  const leaving = new AbortController();
  const answer = worker.post('/embed', embedRequest(), leaving.signal).catch(() => null);
  const { cancelled } = await began.promise;
  leaving.abort();
  await Promise.all([cancelled, answer]);
});

test("a batch's request is made once, and its answer is kept", async () => {
  await using worker = await startWorker(answering);
  const ask = async (path: string, value: object) => (await (await worker.post(path, value)).json()) as Body;
  const request = embedRequest({ from_batch: true, priority: 'batch' });
  const first = await ask('/embed', request);
  assert.deepEqual(await ask('/embed', request), first);
  assert.deepEqual(await ask('/answer', { request_id: request.request_id }), first);
  assert.equal(worker.works.length, 1);
});
