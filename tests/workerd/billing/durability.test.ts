/** What was acknowledged survives a kill of the edge. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BASE, Peer, usageOf } from '../support/peer.ts';
import { spawnEdge } from '../support/spawn.ts';
import { ADMIN_KEY, callerOf, startStack } from '../support/stack.ts';
import { upload } from '../support/upload.ts';

const homes: string[] = [];
after(() => Promise.all(homes.map((home) => rm(home, { recursive: true, force: true }))));

test('kill -9: tenants, keys, adapters and settled usage are there after a restart', async () => {
  const home = await mkdtemp(join(tmpdir(), 'switchyard-edge-'));
  homes.push(home);
  const { kill, url } = await spawnEdge(home);
  const peer = await Peer.start(url);
  const created = await callerOf(url, ADMIN_KEY).post('/v1/admin/tenants', { name: 'x', credit: 1 });
  const tenant = callerOf(url, created.body.key);
  const adapter = await upload(tenant, { name: 'kept' });
  assert.equal((await tenant.post('/v1/completions', { model: 'kept', prompt: 'x' })).status, 200);
  await peer.report([usageOf(peer.generated[0]!, { prompt: 10, completion: 5 })]);
  const usage = await tenant.get('/v1/usage');
  await kill();
  await assert.rejects(fetch(`${url}/health`), 'nothing serves the port any more');
  await peer.stop();

  const stack = await startStack(home);
  const again = callerOf(stack.edge.url, created.body.key);
  assert.deepEqual((await again.get('/v1/adapters/kept')).body, adapter.body);
  assert.deepEqual((await again.get('/v1/usage')).body, usage.body);
  const next = await Peer.start(stack.edge.url);
  assert.deepEqual((await next.report([usageOf(peer.generated[0]!, { prompt: 10, completion: 5 })])).settled, [
    peer.generated[0]!.request_id,
  ]);
  assert.deepEqual((await again.get('/v1/usage')).body, usage.body, 'reported again, settled once');
  assert.equal((await again.post('/v1/completions', { model: BASE.id, prompt: 'x' })).status, 200);
  await next.stop();
  await stack.stop();
});

test('SIGTERM ends it cleanly within seconds', async () => {
  const home = await mkdtemp(join(tmpdir(), 'switchyard-edge-'));
  homes.push(home);
  const { child, url } = await spawnEdge(home);
  const began = performance.now();
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  assert.ok(performance.now() - began < 3_000);
  await assert.rejects(fetch(`${url}/health`));
});
