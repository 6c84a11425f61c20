/** Pins: a tenant's own adapters, a few of them, and workers learn which ones are theirs to keep. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { HeartbeatAnswer } from '../../../shared/contract/worker.ts';
import { BASE, json, Peer, sealResult } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';
import { upload } from '../support/upload.ts';

let stack: Stack;
let peer: Peer;
let tenant: Caller & { id: string };
before(async () => {
  stack = await startStack();
  peer = await Peer.start(stack.edge.url);
  // Sealed for the base as it is served, so that its pins are this worker's.
  peer.onSeal = (request, res) => {
    const result = sealResult(request);
    json(res, 200, { ...result, card: { ...result.card, base_revision: peer.bases[0]!.revision } });
  };
});
after(async () => {
  await peer.stop();
  await stack.stop();
});
beforeEach(async () => {
  for (const name of await pinnedNames()) await tenant.send('DELETE', `/v1/adapters/${name}/pin`);
  tenant = await stack.newTenant();
});

async function pinnedNames(): Promise<string[]> {
  if (!tenant) return [];
  const rows = (await tenant.get('/v1/adapters')).body.data as { name: string; pinned: boolean }[];
  return rows.filter(({ pinned }) => pinned).map(({ name }) => name);
}

const pin = (name: string, body: unknown = { pinned: true }, caller: Caller = tenant) => caller.post(`/v1/adapters/${name}/pin`, body);
const pinsOf = async (worker: Peer) => HeartbeatAnswer.parse(await worker.heartbeat()).pins;

test('a pin shows in lists, reaches the worker, follows new versions, and goes', async () => {
  const first = (await upload(tenant, { name: 'a', base: BASE.id })).body;
  assert.equal(first.pinned, false);
  const pinned = await pin('a');
  assert.deepEqual([pinned.status, pinned.body], [200, { ...first, pinned: true }]);
  assert.deepEqual(await pinnedNames(), ['a']);
  assert.equal((await tenant.get('/v1/adapters/a')).body.pinned, true);
  assert.deepEqual((await pinsOf(peer))?.digests, [first.digest]);

  const second = (await upload(tenant, {}, undefined, '/v1/adapters/a/versions')).body;
  assert.equal(second.pinned, true);
  assert.deepEqual((await pinsOf(peer))?.digests, [second.digest]);
  const versions = (await tenant.get('/v1/adapters/a/versions')).body.data as { version: number; pinned: boolean }[];
  assert.deepEqual(
    versions.map((v) => [v.version, v.pinned]),
    [
      [2, true],
      [1, false],
    ],
  );
  const dropped = await tenant.send('DELETE', '/v1/adapters/a/pin');
  assert.deepEqual([dropped.status, dropped.body.pinned], [200, false]);
  assert.deepEqual((await pinsOf(peer))?.digests, []);
});

test('a version may be pinned by itself; pinned: false drops what it names', async () => {
  const first = (await upload(tenant, { name: 'a', base: BASE.id })).body;
  await upload(tenant, {}, undefined, '/v1/adapters/a/versions');
  assert.equal((await pin('a', { pinned: true, version: 1 })).body.pinned, false, 'the newest is not');
  assert.deepEqual((await pinsOf(peer))?.digests, [first.digest]);
  await pin('a', { pinned: false, version: 2 });
  assert.deepEqual((await pinsOf(peer))?.digests, [first.digest]);
  await pin('a', { pinned: false });
  assert.deepEqual((await pinsOf(peer))?.digests, []);
});

test('a worker that has the list is not told again', async () => {
  await upload(tenant, { name: 'a', base: BASE.id });
  await pin('a');
  const pins = await pinsOf(peer);
  peer.pins = pins!.name;
  assert.equal(await pinsOf(peer), null);
  await pin('a', { pinned: false });
  assert.deepEqual((await pinsOf(peer))?.digests, []);
  peer.pins = null;
});

test('of two workers of a base one keeps a pinned adapter; another base’s has none of it', async () => {
  for (const name of ['a', 'b', 'c', 'd']) {
    await upload(tenant, { name, base: BASE.id });
    await pin(name);
  }
  const other = await Peer.start(stack.edge.url, 'peer-2');
  const foreign = await Peer.start(stack.edge.url, 'peer-3', [{ ...peer.bases[0]!, id: 'foreign', revision: 'f'.repeat(64) }]);
  try {
    await new Promise((resolve) => setTimeout(resolve, 1_100)); // the edge's view of the fleet
    const lists = await Promise.all([peer, other].map(async (worker) => (await pinsOf(worker))!.digests));
    assert.equal(new Set(lists.flat()).size, 4);
    assert.equal(lists.flat().length, 4);
    assert.deepEqual((await pinsOf(foreign))?.digests, []);
  } finally {
    await foreign.stop();
    await other.stop();
  }
});

test('at most four of a tenant; a pin of what is pinned changes nothing; deleting frees its place', async () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const name of names) await upload(tenant, { name, base: BASE.id });
  const answers = await Promise.all(names.map((name) => pin(name)));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 200, 409, 409]);
  const refused = answers.find(({ status }) => status === 409)!;
  assert.deepEqual([refused.body.error.code, refused.body.error.param], ['pin_limit', 'pinned']);
  assert.match(refused.body.error.message, /at most 4 adapters/);
  const [one, ...others] = await pinnedNames();
  assert.equal(others.length, 3);
  assert.equal((await pin(one!)).status, 200);
  await tenant.send('DELETE', `/v1/adapters/${one}`);
  const missing = names.find((name) => name !== one && !others.includes(name))!;
  assert.equal((await pin(missing)).status, 200);
  assert.equal((await pin('e', { pinned: true }, await stack.newTenant())).status, 404, 'other tenants have places of their own');
});

test("another tenant's adapter, a version that is not there, and what is no pin are refused by name", async () => {
  await upload(tenant, { name: 'a', base: BASE.id });
  const other = await stack.newTenant();
  assert.equal((await pin('a', { pinned: true }, other)).status, 404);
  assert.equal((await other.send('DELETE', '/v1/adapters/a/pin')).status, 404);
  const version = await pin('a', { pinned: true, version: 2 });
  assert.deepEqual([version.status, version.body.error.param], [404, 'version']);
  const cases: [unknown, string][] = [
    [{}, 'pinned'],
    [{ pinned: 'yes' }, 'pinned'],
    [{ pinned: true, version: 0 }, 'version'],
    [{ pinned: true, ttl: 5 }, 'ttl'],
  ];
  for (const [body, param] of cases) {
    const answer = await pin('a', body);
    assert.deepEqual([answer.status, answer.body.error.param], [400, param], JSON.stringify(body));
  }
  assert.deepEqual(await pinnedNames(), []);
});
