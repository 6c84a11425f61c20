/** Adapters from upload to deletion. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, beforeEach, test } from 'node:test';
import { BASE, json, Peer, sealResult } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';
import { keysUnder, s3Client } from '../support/storage.ts';
import { form, PACKAGE, upload } from '../support/upload.ts';

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
  peer.onSeal = (request, res) => json(res, 200, sealResult(request));
});

const staged = () => keysUnder(s3Client(stack), `packages/${tenant.id}/`);

test('an upload is staged, sealed and servable when the answer comes', async () => {
  const answer = await upload(tenant, { name: 'tickets', base: BASE.id });
  assert.equal(answer.status, 201, answer.text);
  const { id, name, version, digest, base, status, card } = answer.body;
  assert.deepEqual({ name, version, base, status }, { name: 'tickets', version: 1, base: BASE.id, status: 'ready' });
  const request = peer.sealed.at(-1)!;
  assert.deepEqual(
    request.files.map((f) => [f.name, f.bytes]),
    Object.entries(PACKAGE).map(([n, c]) => [n, c.length]),
  );
  assert.deepEqual(card, sealResult(request).card);
  assert.equal(digest, sealResult(request).digest);
  assert.deepEqual((await staged()).sort(), request.files.map((f) => f.key).sort());
  assert.deepEqual((await tenant.get('/v1/adapters/tickets')).body, answer.body);
  assert.deepEqual((await tenant.get('/v1/adapters/tickets/card')).body, card);
  assert.deepEqual(
    (await tenant.get('/v1/adapters')).body.data.map((a: { id: string }) => a.id),
    [id],
  );
  const models = (await tenant.get('/v1/models')).body.data;
  assert.deepEqual(
    models.map((m: { id: string; root: string; parent: string | null }) => [m.id, m.root, m.parent]),
    [
      [BASE.id, BASE.id, null],
      ['tickets', BASE.id, BASE.id],
    ],
  );
  assert.equal((await tenant.get('/v1/models/tickets')).body.owned_by, tenant.id);
});

test('base may be left out while one base is served; it comes after the files as well', async () => {
  const data = form({}, PACKAGE);
  data.append('name', 'late');
  const { status, body } = await tenant.send('POST', '/v1/adapters', { body: data });
  assert.equal(status, 201);
  assert.equal(body.base, BASE.id);
});

test('versions count up; deleting frees the name, and a new adapter starts at 1 under a new id', async () => {
  const first = await upload(tenant, { name: 'a' });
  const second = await upload(tenant, {}, undefined, '/v1/adapters/a/versions');
  assert.equal(second.status, 201, second.text);
  assert.deepEqual([second.body.id, second.body.version], [first.body.id, 2]);
  assert.deepEqual(
    (await tenant.get('/v1/adapters/a/versions')).body.data.map((v: { version: number }) => v.version),
    [2, 1],
  );
  assert.equal((await tenant.get('/v1/adapters/a')).body.version, 2);
  const gone = await tenant.send('DELETE', '/v1/adapters/a');
  assert.deepEqual([gone.status, gone.body], [200, { id: first.body.id, object: 'adapter', name: 'a', deleted: true }]);
  const paths = ['/v1/adapters/a', '/v1/adapters/a/versions', '/v1/adapters/a/card', '/v1/models/a'];
  for (const path of paths) assert.equal((await tenant.get(path)).status, 404, path);
  assert.equal((await tenant.send('DELETE', '/v1/adapters/a')).status, 404);
  assert.equal((await tenant.post('/v1/completions', { model: 'a', prompt: 'x' })).status, 404);
  assert.equal((await upload(tenant, {}, undefined, '/v1/adapters/a/versions')).status, 404);
  const again = await upload(tenant, { name: 'a' });
  assert.equal(again.body.version, 1);
  assert.notEqual(again.body.id, first.body.id);
});

test('versions uploaded at once get different numbers; of one name uploaded at once one wins', async () => {
  await upload(tenant, { name: 'a' });
  const versions = await Promise.all(Array.from({ length: 5 }, () => upload(tenant, {}, undefined, '/v1/adapters/a/versions')));
  assert.deepEqual(versions.map((v) => v.body.version).sort(), [2, 3, 4, 5, 6]);
  const same = await Promise.all(Array.from({ length: 5 }, () => upload(tenant, { name: 'b' })));
  assert.deepEqual(same.map((s) => s.status).sort(), [201, 409, 409, 409, 409]);
});

test('a name that is taken, malformed or a base is refused, and nothing stays behind', async () => {
  await upload(tenant, { name: 'a' });
  const before = await staged();
  const cases: [Record<string, string>, number, string][] = [
    [{ name: 'a' }, 409, 'name'],
    [{ name: BASE.id }, 409, 'name'],
    [{ name: 'No' }, 400, 'name'],
    [{ name: '-a' }, 400, 'name'],
    [{ name: 'a'.repeat(65) }, 400, 'name'],
    [{}, 400, 'name'],
    [{ name: 'b', base: 'none' }, 404, 'base'],
    [{ name: 'b', rank: '8' }, 400, 'rank'],
  ];
  for (const [fields, status, param] of cases) {
    const answer = await upload(tenant, fields);
    assert.deepEqual([answer.status, answer.body.error.param], [status, param], JSON.stringify(fields));
  }
  assert.deepEqual(await staged(), before);
});

test('a package that the worker rejects: its findings reach the client, its files are gone', async () => {
  const error = {
    message: 'no',
    type: 'invalid_request_error',
    param: null,
    code: 'adapter_rejected',
    details: [{ code: 'shapes', message: 'no', tensor: 't' }],
  };
  peer.onSeal = (_, res) => json(res, 400, { error });
  const answer = await upload(tenant, { name: 'a' });
  assert.deepEqual([answer.status, answer.body], [400, { error }]);
  assert.deepEqual(await staged(), []);
  assert.equal((await tenant.get('/v1/adapters/a')).status, 404);
});

test('what is no package form is refused by name', async () => {
  const json = await tenant.post('/v1/adapters', { name: 'a', base: BASE.id, source: { type: 'hub' } });
  assert.deepEqual([json.status, json.body.error.code, json.body.error.param], [400, 'unsupported_value', 'source']);
  const send = (body: string, type: string) => tenant.send('POST', '/v1/adapters', { body, headers: { 'content-type': type } });
  assert.equal((await send('x', 'text/plain')).status, 400);
  assert.equal((await send('x', 'multipart/form-data')).status, 400);
  assert.equal((await send('garbage', 'multipart/form-data; boundary=b')).status, 400);
  assert.equal(
    (await send('--b\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\nhalf', 'multipart/form-data; boundary=b')).status,
    400,
  );
  assert.equal((await upload(tenant, { name: 'a' }, {})).body.error.param, 'files');
  assert.equal((await tenant.send('POST', '/v1/adapters', { body: form({ name: 'a' }, PACKAGE, 'weights') })).body.error.param, 'weights');
  for (const name of ['..', 'a/b', 'ü', '.hidden']) {
    const answer = await upload(tenant, { name: 'a' }, { [name]: 'x' });
    assert.deepEqual([answer.status, answer.body.error.code], [400, 'adapter_rejected'], name);
  }
  const twice = form({ name: 'a' }, PACKAGE);
  twice.append('files', new Blob(['x']), 'adapter_config.json');
  assert.equal((await tenant.send('POST', '/v1/adapters', { body: twice })).body.error.code, 'adapter_rejected');
  assert.deepEqual(await staged(), []);
});

test('a file larger than a part arrives unchanged; an upload over 100 MB is 413 and leaves nothing', async () => {
  const big = new Uint8Array(randomBytes(20 << 20));
  assert.equal((await upload(tenant, { name: 'big' }, { 'adapter_model.safetensors': big, 'adapter_config.json': '{}' })).status, 201);
  const { key, bytes } = peer.sealed.at(-1)!.files[0]!;
  assert.equal(bytes, big.byteLength);
  assert.deepEqual(Buffer.from(await s3Client(stack).read(key)).compare(big), 0);
  await tenant.send('DELETE', '/v1/adapters/big');
  const huge = await upload(tenant, { name: 'huge' }, { 'adapter_model.safetensors': new Uint8Array(100_000_000) });
  assert.deepEqual([huge.status, huge.body.error.code], [413, 'request_too_large']);
  assert.match(huge.body.error.message, /\/v1\/uploads/);
});

test("another tenant's adapter does not exist, and its name is free", async () => {
  const other = await stack.newTenant();
  await upload(tenant, { name: 'mine' });
  for (const path of ['/v1/adapters/mine', '/v1/adapters/mine/versions', '/v1/adapters/mine/card', '/v1/models/mine']) {
    assert.equal((await other.get(path)).status, 404, path);
  }
  assert.equal((await other.send('DELETE', '/v1/adapters/mine')).status, 404);
  assert.equal((await upload(other, {}, undefined, '/v1/adapters/mine/versions')).status, 404);
  assert.equal((await other.post('/v1/completions', { model: 'mine', prompt: 'x' })).status, 404);
  assert.deepEqual((await other.get('/v1/adapters')).body.data, []);
  assert.equal((await upload(other, { name: 'mine' })).status, 201);
  assert.equal((await tenant.get('/v1/adapters/mine')).status, 200);
});
