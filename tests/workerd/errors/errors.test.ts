/** Everything that goes wrong has OpenAI's form and a request id. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { RequestId } from '../../../shared/ids.ts';
import { type Answer, type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
before(async () => {
  stack = await startStack();
});
after(() => stack.stop());

function assertError(answer: Answer, status: number, code: string | null): void {
  assert.equal(answer.status, status, answer.text);
  assert.deepEqual(Object.keys(answer.body), ['error']);
  assert.equal(answer.body.error.code, code);
  for (const field of ['message', 'type', 'param', 'code']) assert.ok(field in answer.body.error, field);
  RequestId.parse(answer.headers.get('x-request-id'));
}

test('unknown routes are 404, known ones under another method 405 with Allow', async () => {
  for (const path of ['/', '/v1', '/v1/nope', '/v1/chat/completions/x', '/v1/adapters/a/b/c']) {
    assertError(
      await stack.nobody.get(path),
      path.startsWith('/v1/adapters') ? 401 : 404,
      path.startsWith('/v1/adapters') ? 'invalid_api_key' : 'not_found',
    );
  }
  const answer = await stack.nobody.send('PUT', '/v1/models');
  assertError(answer, 405, 'method_not_allowed');
  assert.equal(answer.headers.get('allow'), 'GET');
  assert.equal((await stack.nobody.get('/v1/chat/completions')).headers.get('allow'), 'POST');
});

test('malformed JSON, another content type and a body that is no object are 400', async () => {
  const tenant = await stack.newTenant();
  const post = (body: string, type = 'application/json') =>
    tenant.send('POST', '/v1/completions', { body, headers: { 'content-type': type } });
  for (const body of ['', '{', '{"model":}', '{"model":"a"} x', '[]', '"x"', 'null']) assertError(await post(body), 400, null);
  assertError(await post('{}', 'text/plain'), 400, null);
  assertError(
    await tenant.send('POST', '/v1/completions', {
      body: Buffer.from([0x22, 0xff, 0x22]),
      headers: { 'content-type': 'application/json' },
    }),
    400,
    null,
  );
});

test('a JSON body over the limit is 413, declared or not', async () => {
  const tenant = await stack.newTenant();
  const huge = JSON.stringify({ model: 'm', prompt: 'x'.repeat(9 << 20) });
  assertError(
    await tenant.send('POST', '/v1/completions', { body: huge, headers: { 'content-type': 'application/json' } }),
    413,
    'request_too_large',
  );
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const headers = { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json', 'transfer-encoding': 'chunked' };
    const req = request(`${stack.edge.url}/v1/completions`, { method: 'POST', headers }, (res) => resolve(res.resume().statusCode));
    req.on('error', reject);
    for (let at = 0; at < huge.length; at += 1 << 20) req.write(huge.slice(at, at + (1 << 20)));
    req.end();
  });
  assert.equal(status, 413);
});

test('without a live worker inference and readiness are 503 with Retry-After, at once', async () => {
  const tenant = await stack.newTenant();
  const began = performance.now();
  const answers = [await tenant.post('/v1/completions', { model: 'm', prompt: 'x' }), await stack.nobody.get('/ready')];
  assert.ok(performance.now() - began < 2_000);
  for (const answer of answers) {
    assertError(answer, 503, 'unavailable');
    assert.match(answer.headers.get('retry-after') ?? '', /^[1-9]\d*$/);
  }
  assert.equal((await stack.nobody.get('/health')).status, 200);
});

test('/openapi.json describes the routes that exist', async () => {
  const { body } = await stack.nobody.get('/openapi.json');
  assert.equal(body.openapi, '3.1.0');
  for (const path of ['/v1/chat/completions', '/v1/completions', '/v1/models', '/v1/adapters', '/v1/usage', '/health', '/ready']) {
    assert.ok(path in body.paths, path);
  }
});
