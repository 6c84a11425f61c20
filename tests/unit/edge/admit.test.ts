/**
 * Names that change under a request. In one isolate changes are noticed at once, so the registry that the
 * edge sees here is a stand-in whose answer is changed behind its back, as another isolate would.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Hono } from 'hono';
import { completionWork, type Work } from '../../../functions/upstream/admission.ts';
import { CompletionRequest } from '../../../shared/contract/openai.ts';
import type { GenerateRequest } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import { newRequestId } from '../../../shared/ids.ts';
import { BASE, sha256 } from '../../workerd/support/peer.ts';

type Admit = (c: object, work: Work, mixture: null, leaves: AbortSignal) => Promise<Response>;
/** Imported by URL: its types are the Workers runtime's, which this test's compiler settings do not have. */
const { admit } = (await import(new URL('../../../functions/upstream/admit.ts', import.meta.url).href)) as { admit: Admit };

const WORK = completionWork(CompletionRequest.parse({ model: 'tickets', prompt: 'x' }));
const [OLD, NEW] = [sha256('old'), sha256('new')];

/** What D1 says `tickets` is: its digest, or null for nothing. */
let registry: string | null;
let asked: GenerateRequest[];
let aborted: string[];
let released: string[];
let worker: Server;

before(async () => {
  worker = createServer(async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    const request = JSON.parse(body) as GenerateRequest;
    asked.push(request);
    // Only the current digest is answered: a start on anything else must be given up by the edge.
    if (request.adapters[0]?.digest === registry) return void res.end(request.adapters[0].digest);
    res.once('close', () => aborted.push(request.request_id));
  }).listen(0, '127.0.0.1');
  await once(worker, 'listening');
});
after(() => {
  worker.closeAllConnections();
  worker.close();
});
beforeEach(() => {
  [asked, aborted, released] = [[], [], []];
});

function object(methods: object) {
  return { idFromName: (name: string) => name, get: () => methods };
}

function ask(tenant: string): Promise<Response> {
  const rows = async () => {
    await sleep(30); // long enough for a worker to have started
    return registry === null ? [] : [[BASE.id, registry, BASE.revision]];
  };
  const url = `http://127.0.0.1:${(worker.address() as AddressInfo).port}`;
  const fleet = [{ worker: 'w', url, bases: [BASE], slots: 8, active: 0, queued: 0, seenAt: Date.now() }];
  const env = {
    SWITCHYARD_SECRET: 'secret',
    DB: { prepare: () => ({ bind: () => ({ raw: rows }) }) },
    FLEET: object({ snapshot: async () => fleet, absentBases: async () => [] }),
    LEDGER: object({ reserve: async () => ({ ok: true }), release: async (id: string) => released.push(id) }),
  };
  const app = new Hono<{ Variables: { requestId: string; arrived: number; principal: object } }>();
  app.post('/', async (c) => {
    c.set('requestId', newRequestId());
    c.set('arrived', Date.now());
    c.set('principal', { kind: 'tenant', keyId: 'k', tenant: { id: tenant, name: 't', metered: false } });
    const answer = await admit(c, WORK, null, c.req.raw.signal);
    answer.headers.set('x-request-id', c.get('requestId'));
    return answer;
  });
  app.onError((error) => {
    throw error;
  });
  const context = { waitUntil: () => undefined, passThroughOnException: () => undefined, props: {} };
  return Promise.resolve(app.request('/', { method: 'POST' }, env, context));
}

test('a confirmed guess is one start', async () => {
  registry = OLD;
  for (let i = 0; i < 3; i++) assert.equal(await (await ask('ten_a')).text(), OLD);
  assert.equal(asked.length, 3);
  assert.deepEqual(released, []);
});

test('a name that means something else by now: the first start is given up, the answer is of the second, under its own id', async () => {
  registry = OLD;
  await ask('ten_b');
  registry = NEW;
  const answer = await ask('ten_b');
  assert.equal(await answer.text(), NEW);
  const [, guess, second] = asked as [GenerateRequest, GenerateRequest, GenerateRequest];
  assert.deepEqual([guess.adapters[0]?.digest, second.adapters[0]?.digest], [OLD, NEW]);
  assert.notEqual(guess.request_id, second.request_id);
  assert.equal(answer.headers.get('x-request-id'), second.request_id);
  assert.deepEqual([aborted, released], [[guess.request_id], [guess.request_id]]);
  assert.equal(await (await ask('ten_b')).text(), NEW, 'remembered from now on');
  assert.equal(asked.length, 4);
});

test('a name that is gone is 404, whatever the worker made of the guess', async () => {
  registry = OLD;
  await ask('ten_c');
  registry = null;
  await assert.rejects(ask('ten_c'), (error) => error instanceof Failure && error.value.kind === 'not_found');
  await assert.rejects(ask('ten_c'), (error) => error instanceof Failure && error.value.kind === 'not_found');
  assert.ok(asked.length <= 2, 'the second was refused without a start');
});
