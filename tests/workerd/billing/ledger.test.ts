/** Money and usage: held before, settled after, exactly once. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { amountOf, chargesOf } from '../../../shared/billing/amounts.ts';
import { priceOf } from '../../../shared/billing/prices.ts';
import type { GenerateRequest, UsageRecord } from '../../../shared/contract/worker.ts';
import { BASE, json, Peer, usageOf } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';
import { keysUnder, s3Client } from '../support/storage.ts';
import { upload } from '../support/upload.ts';

let stack: Stack;
let peer: Peer;
before(async () => {
  stack = await startStack();
  peer = await Peer.start(stack.edge.url);
});
after(async () => {
  await peer.stop();
  await stack.stop();
});

const THIS_MONTH = new Date().toISOString().slice(0, 7);
const PRICE = priceOf(BASE.id, 'interactive');
const costOf = (records: UsageRecord[]) => records.reduce((sum, r) => sum + amountOf(chargesOf(r, PRICE)), 0);

async function ask(tenant: Caller, body: object = {}): Promise<GenerateRequest> {
  const answer = await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x', ...body });
  assert.equal(answer.status, 200, answer.text);
  return peer.generated.at(-1)!;
}

async function reconciliation(tenant: { id: string }) {
  const { body } = await stack.admin.get('/v1/admin/reconcile');
  return body.data.find((row: { tenant: string }) => row.tenant === tenant.id);
}

test('usage is visible at once, by day, adapter, key and model; the invoice is its exact sum', async () => {
  const tenant = await stack.newTenant();
  const { digest } = (await upload(tenant, { name: 'tickets' })).body;
  const records = [
    usageOf(await ask(tenant), { prompt: 10, completion: 5 }),
    usageOf(await ask(tenant, { model: 'tickets' }), { prompt: 20, completion: 7, cached: 16 }),
    usageOf(await ask(tenant, { model: 'tickets' }), { prompt: 3, completion: 0 }),
  ];
  const answer = await peer.report(records);
  assert.deepEqual(answer.settled.sort(), records.map((r) => r.request_id).sort());
  const total = {
    requests: 3,
    prompt_tokens: 33,
    cached_tokens: 16,
    completion_tokens: 12,
    training_tokens: 0,
    cost_nano: costOf(records),
  };
  const rows = async (by: string) => {
    const { body } = await tenant.get(`/v1/usage?group_by=${by}`);
    assert.equal(body.object, 'list');
    assert.deepEqual(body.total, total);
    return body.data as { bucket: string; requests: number; adapter_digest?: string; model?: string }[];
  };
  assert.deepEqual(
    (await rows('day')).map((r) => r.bucket),
    [new Date().toISOString().slice(0, 10)],
  );
  const byAdapter = await rows('adapter');
  assert.deepEqual(byAdapter.find((r) => r.bucket === digest)?.adapter_digest, digest);
  assert.equal(byAdapter.find((r) => r.bucket === BASE.revision)?.adapter_digest, undefined);
  assert.deepEqual(
    (await rows('model')).map((r) => [r.model, r.requests]).sort(),
    [
      ['tickets', 2],
      [BASE.id, 1],
    ].sort(),
  );
  assert.equal((await rows('key')).length, 1);
  const invoice = (await tenant.get(`/v1/invoices/${THIS_MONTH}`)).body;
  assert.equal(invoice.amount_nano, total.cost_nano);
  for (const line of invoice.lines) assert.equal(line.amount_nano, line.quantity * line.price_nano);
  const cached = invoice.lines.find((l: { unit: string }) => l.unit === 'cached_prompt_token');
  assert.deepEqual([cached.digest, cached.model, cached.quantity, cached.price_nano], [digest, 'tickets', 16, PRICE.cachedPrompt]);
  assert.deepEqual((await tenant.get('/v1/invoices/2020-01')).body.lines, []);
});

test('a record is settled exactly once, however often and however parallel it is reported', async () => {
  const tenant = await stack.newTenant();
  const record = usageOf(await ask(tenant), { prompt: 10, completion: 5 });
  const reports = await Promise.all(Array.from({ length: 8 }, () => peer.report([record, record])));
  for (const { settled } of reports) assert.ok(settled.includes(record.request_id));
  assert.equal((await tenant.get('/v1/usage')).body.total.requests, 1);
  assert.equal((await tenant.get(`/v1/invoices/${THIS_MONTH}`)).body.amount_nano, costOf([record]));
});

test('a record without a hold counts: the engine decides what was generated', async () => {
  const tenant = await stack.newTenant();
  const record = usageOf(await ask(tenant), { prompt: 10, completion: 5 });
  const unheld = { ...record, request_id: 'req_000000000000000000000000' };
  await peer.report([record, unheld]);
  assert.equal((await tenant.get('/v1/usage')).body.total.requests, 2);
});

test('usage is filtered by time and refuses what it does not know', async () => {
  const tenant = await stack.newTenant();
  const record = { ...usageOf(await ask(tenant), { prompt: 1, completion: 1 }), finished_at: Date.UTC(2025, 2, 31, 23, 59, 59) };
  await peer.report([record]);
  const requests = async (query: string) => (await tenant.get(`/v1/usage?${query}`)).body.total.requests;
  assert.equal(await requests(''), 0, 'this month by default');
  assert.equal(await requests('from=2025-03-31&to=2025-04-01'), 1);
  assert.equal(await requests('from=2025-04-01'), 0);
  assert.equal(await requests(`from=${Date.UTC(2025, 2, 1) / 1000}&to=${Date.UTC(2025, 3, 1) / 1000}`), 1);
  assert.equal((await tenant.get('/v1/invoices/2025-03')).body.amount_nano, costOf([record]));
  for (const query of ['group_by=week', 'from=yesterday', 'limit=5', 'from=2025-04-01&to=2025-03-01']) {
    assert.equal((await tenant.get(`/v1/usage?${query}`)).status, 400, query);
  }
  assert.equal((await tenant.get('/v1/invoices/2025-13')).status, 400);
});

for (const limit of ['credit', 'budget'] as const) {
  test(`an exhausted ${limit} is 429 insufficient_quota; a hold is given back when it was not needed`, async () => {
    const most = (max_tokens: number) => (PRICE.prompt + PRICE.completion * max_tokens) / 1e9;
    const tenant = await stack.newTenant({ [limit]: most(10) });
    const before = peer.generated.length;
    const tooMuch = await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x', max_tokens: 11 });
    assert.deepEqual([tooMuch.status, tooMuch.body.error.code, tooMuch.body.error.type], [429, 'insufficient_quota', 'insufficient_quota']);
    assert.equal(peer.generated.length, before, 'nothing was asked of a worker');
    // Refused by the worker: the hold goes back, so the same request fits again.
    peer.onGenerate = (_, res) => json(res, 400, { error: { message: 'no', type: 'invalid_request_error', param: null, code: null } });
    for (let i = 0; i < 3; i++)
      assert.equal((await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x', max_tokens: 10 })).status, 400);
    peer.onGenerate = (_, res) => json(res, 200, {});
    const running = await ask(tenant, { max_tokens: 10 });
    assert.equal((await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x', max_tokens: 1 })).status, 429, 'held while it runs');
    assert.equal((await reconciliation(tenant)).reserved, 11);
    await peer.report([usageOf(running, { prompt: 1, completion: 4 })]);
    const next = await ask(tenant, { max_tokens: 5 });
    await peer.report([usageOf(next, { prompt: 1, completion: 5 })]);
    assert.equal((await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x', max_tokens: 1 })).status, 429);
  });
}

test('a tenant without credit is refused from the first request', async () => {
  const tenant = await stack.newTenant({ credit: 0 });
  assert.equal((await tenant.post('/v1/completions', { model: BASE.id, prompt: 'x', max_tokens: 0 })).status, 429);
});

test("reconcile sets the engines' counts beside the ledger's", async () => {
  const tenant = await stack.newTenant();
  const [first, second] = [await ask(tenant), await ask(tenant)];
  await peer.report([usageOf(first, { prompt: 10, completion: 5 })]);
  peer.totals = { [tenant.id]: { engine_committed: 22, outbox: 7, running: 0 } };
  assert.deepEqual(await reconciliation(tenant), { tenant: tenant.id, engine_committed: 22, settled: 15, outbox: 7, reserved: 17 });
  await peer.report([usageOf(second, { prompt: 3, completion: 4 })]);
  peer.totals = { [tenant.id]: { engine_committed: 22, outbox: 0, running: 0 } };
  assert.deepEqual(await reconciliation(tenant), { tenant: tenant.id, engine_committed: 22, settled: 22, outbox: 0, reserved: 0 });
});

test('every settled record reaches the archive through the queue, once', async () => {
  const tenant = await stack.newTenant();
  const storage = s3Client(stack);
  const records: UsageRecord[] = [];
  for (let i = 0; i < 5; i++) records.push(usageOf(await ask(tenant), { prompt: i, completion: 1 }));
  await peer.report(records.slice(0, 2));
  await peer.report([
    ...records.slice(1),
    { ...records[0]!, request_id: 'req_0000000000000000000other', finished_at: Date.UTC(2025, 0, 1) },
  ]);
  const deadline = Date.now() + 15_000;
  const folder = `usage-archive/${tenant.id}/`;
  let archived: (UsageRecord & { cost_nano: number })[] = [];
  while (archived.length < 6) {
    assert.ok(Date.now() < deadline, `archived ${archived.length} of 6`);
    await sleep(200);
    const files = await Promise.all((await keysUnder(storage, folder)).map((key) => storage.read(key)));
    archived = files.flatMap((bytes) =>
      Buffer.from(bytes)
        .toString()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    );
  }
  assert.equal(archived.length, 6);
  for (const record of records) {
    const found = archived.filter((a) => a.request_id === record.request_id);
    assert.deepEqual(found, [{ ...record, cost_nano: costOf([record]) }]);
  }
  assert.ok((await keysUnder(storage, `${folder}2025-01-01/`)).length === 1);
});
