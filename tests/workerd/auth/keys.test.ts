/** Who may call what: keys, their kinds, revocation. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomId } from '../../../shared/ids.ts';
import { type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
before(async () => {
  stack = await startStack();
});
after(() => stack.stop());

const withKey = (key: string) => stack.nobody.send('GET', '/v1/me', { headers: { authorization: `Bearer ${key}` } });

test('a missing, malformed or unknown key is 401 in the OpenAI form', async () => {
  const answers = [
    await stack.nobody.get('/v1/me'),
    await withKey('sk-123'),
    await withKey(`sy_tenant_${randomId(12)}_${randomId(40)}`),
    await withKey(`sy_admin_${randomId(12)}_${randomId(40)}`),
  ];
  for (const { status, body, headers } of answers) {
    assert.equal(status, 401);
    assert.equal(body.error.code, 'invalid_api_key');
    assert.equal(headers.get('www-authenticate'), 'Bearer');
  }
});

test('a key whose secret is wrong by one character is 401', async () => {
  const tenant = await stack.newTenant();
  assert.equal((await withKey(tenant.key)).status, 200);
  const last = tenant.key.at(-1) === 'x' ? 'y' : 'x';
  assert.equal((await withKey(tenant.key.slice(0, -1) + last)).status, 401);
});

test('/v1/me tells whose key it is and never the key', async () => {
  const tenant = await stack.newTenant({ credit: 2.5 });
  const { body, text } = await tenant.get('/v1/me');
  assert.equal(body.tenant.id, tenant.id);
  assert.equal(body.tenant.credit, 2.5);
  assert.equal(body.scope, 'tenant');
  assert.ok(!text.includes(tenant.key));
  assert.equal((await stack.admin.get('/v1/me')).body.scope, 'admin');
});

test("kinds of keys do not open each other's routes", async () => {
  const tenant = await stack.newTenant();
  const forbidden = [
    await tenant.post('/v1/admin/tenants', { name: 'x' }),
    await tenant.get('/v1/admin/reconcile'),
    await stack.admin.get('/v1/adapters'),
    await stack.admin.get('/v1/usage'),
    await stack.admin.post('/v1/completions', { model: 'm', prompt: 'x' }),
  ];
  for (const { status, body } of forbidden) {
    assert.equal(status, 403);
    assert.equal(body.error.code, 'insufficient_permissions');
  }
});

test('keys are created, listed without their secrets, and revoked for good', async () => {
  const tenant = await stack.newTenant();
  const keys = `/v1/admin/tenants/${tenant.id}/keys`;
  const made = await stack.admin.post(keys, { name: 'ci' });
  assert.equal(made.status, 201);
  const { id, key } = made.body;
  assert.equal((await withKey(key)).body.tenant.id, tenant.id);
  const listed = await stack.admin.get(keys);
  assert.deepEqual(
    listed.body.data.map((k: { name: string }) => k.name),
    ['default', 'ci'],
  );
  assert.ok(!listed.text.includes(key));
  assert.equal((await stack.admin.send('DELETE', `${keys}/${id}`)).status, 200);
  assert.equal((await stack.admin.send('DELETE', `${keys}/${id}`)).status, 404);
  await sleep(5_200); // an isolate may remember a key for five seconds
  assert.equal((await withKey(key)).status, 401);
  assert.equal((await withKey(tenant.key)).status, 200);
});

test('keys of an unknown tenant are 404; limits that are not enforced are refused by name', async () => {
  assert.equal((await stack.admin.post('/v1/admin/tenants/ten_0/keys', {})).status, 404);
  const { status, body } = await stack.admin.post('/v1/admin/tenants', { name: 'x', limits: { rpm: 5 } });
  assert.equal(status, 400);
  assert.equal(body.error.param, 'limits.rpm');
  assert.equal(body.error.code, 'unsupported_value');
});

test("a call to /internal needs the worker's signature", async () => {
  for (const path of ['/internal/heartbeat', '/internal/usage']) {
    for (const caller of [stack.nobody, stack.admin]) assert.equal((await caller.post(path, {})).status, 401);
  }
});
