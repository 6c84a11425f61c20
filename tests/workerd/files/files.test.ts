/** /v1/files with the official client: what goes in comes out, for its tenant only. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { type Caller, type Stack, startStack } from '../support/stack.ts';
import { keysUnder, s3Client } from '../support/storage.ts';
import { form } from '../support/upload.ts';

let stack: Stack;
before(async () => {
  stack = await startStack();
});
after(() => stack.stop());

const clientOf = (tenant: Caller) => new OpenAI({ baseURL: `${stack.edge.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
const isNotFound = (error: unknown) => error instanceof OpenAI.NotFoundError && error.code === 'not_found';

test('a file comes back byte for byte, whatever its size', async () => {
  const client = clientOf(await stack.newTenant());
  // Above one part of R2's multipart uploads.
  for (const bytes of [new Uint8Array(0), new TextEncoder().encode('{"a":1}\n'), crypto.getRandomValues(new Uint8Array(65_536)), large()]) {
    const made = await client.files.create({ purpose: 'batch', file: await toFile(bytes, 'in put.jsonl') });
    assert.deepEqual(
      [made.object, made.bytes, made.filename, made.purpose, made.status],
      ['file', bytes.length, 'in put.jsonl', 'batch', 'processed'],
    );
    assert.match(made.id, /^file-[0-9a-z]{24}$/);
    assert.deepEqual(await client.files.retrieve(made.id), made);
    const content = await client.files.content(made.id);
    assert.ok(Buffer.from(await content.arrayBuffer()).equals(bytes));
  }
});

function large(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(9 * 1024 * 1024);
  for (let i = 0; i < bytes.length; i += 65_536) crypto.getRandomValues(bytes.subarray(i, i + 65_536));
  return bytes;
}

test('a file keeps its name, in any script', async () => {
  const client = clientOf(await stack.newTenant());
  for (const name of ['ä.jsonl', '日本 🙂.jsonl', 'a;b=c.jsonl']) {
    const made = await client.files.create({ purpose: 'batch', file: await toFile(Buffer.from('x'), name) });
    assert.equal(made.filename, name);
  }
});

test('lists page by page, in either order, by purpose', async () => {
  const client = clientOf(await stack.newTenant());
  const ids: string[] = [];
  for (const purpose of ['batch', 'fine-tune', 'batch', 'fine-tune', 'batch'] as const)
    ids.push((await client.files.create({ purpose, file: await toFile(Buffer.from('x'), 'f') })).id);
  const collect = async (query: OpenAI.FileListParams) => {
    const seen: string[] = [];
    for await (const file of client.files.list(query)) seen.push(file.id);
    return seen;
  };
  assert.deepEqual(await collect({ limit: 2 }), ids.toReversed());
  assert.deepEqual(await collect({ limit: 2, order: 'asc' }), ids);
  assert.deepEqual(await collect({ purpose: 'fine-tune' }), [ids[3], ids[1]]);
  const page = await client.files.list({ limit: 2 });
  assert.equal(page.has_more, true);
  await assert.rejects(collect({ after: 'file-unknown' }), OpenAI.BadRequestError);
  await assert.rejects(collect({ limit: 0 }), OpenAI.BadRequestError);
});

test('deletion takes row and bytes; nobody else sees, reads or deletes a file', async () => {
  const tenant = await stack.newTenant();
  const [client, other] = [clientOf(tenant), clientOf(await stack.newTenant())];
  const { id } = await client.files.create({ purpose: 'batch', file: await toFile(Buffer.from('secret'), 'f') });
  for (const act of [() => other.files.retrieve(id), () => other.files.content(id), () => other.files.delete(id)])
    await assert.rejects(act, isNotFound);
  assert.deepEqual((await other.files.list()).data, []);
  const objects = s3Client(stack);
  assert.equal((await keysUnder(objects, `files/${tenant.id}/`)).length, 1);
  assert.deepEqual(await client.files.delete(id), { id, object: 'file', deleted: true });
  for (const act of [() => client.files.retrieve(id), () => client.files.content(id), () => client.files.delete(id)])
    await assert.rejects(act, isNotFound);
  assert.deepEqual(await keysUnder(objects, `files/${tenant.id}/`), []);
});

test('a lifetime is honoured', async () => {
  const client = clientOf(await stack.newTenant());
  const file = await client.files.create({
    purpose: 'batch',
    file: await toFile(Buffer.from('x'), 'f'),
    expires_after: { anchor: 'created_at', seconds: 3600 },
  });
  assert.equal(file.expires_at, file.created_at + 3600);
});

test('refusals name the field, and leave nothing', async () => {
  const tenant = await stack.newTenant();
  const refused: [FormData, string, string | null][] = [
    [form({ purpose: 'vision' }, { f: 'x' }, 'file'), 'purpose', 'unsupported_value'],
    [form({ purpose: 'batch_output' }, { f: 'x' }, 'file'), 'purpose', 'unsupported_value'],
    [form({}, { f: 'x' }, 'file'), 'purpose', null],
    [form({ purpose: 'batch' }, {}, 'file'), 'file', null],
    [form({ purpose: 'batch' }, { a: 'x', b: 'y' }, 'file'), 'file', null],
    [form({ purpose: 'batch' }, { a: 'x' }, 'files'), 'files', null],
    [form({ purpose: 'batch', color: 'red' }, { a: 'x' }, 'file'), 'color', 'unknown_parameter'],
    [form({ purpose: 'batch', 'expires_after[seconds]': '3600' }, { a: 'x' }, 'file'), 'expires_after', null],
    [
      form({ purpose: 'batch', 'expires_after[anchor]': 'created_at', 'expires_after[seconds]': '1' }, { a: 'x' }, 'file'),
      'expires_after[seconds]',
      null,
    ],
  ];
  for (const [body, param, code] of refused) {
    const answer = await tenant.send('POST', '/v1/files', { body });
    assert.deepEqual([answer.status, answer.body.error.param, answer.body.error.code], [400, param, code], answer.text);
  }
  assert.equal((await tenant.post('/v1/files', { purpose: 'batch' })).status, 400);
  assert.deepEqual((await tenant.get('/v1/files')).body.data, []);
  assert.deepEqual(await keysUnder(s3Client(stack), `files/${tenant.id}/`), []);
  assert.equal((await stack.nobody.get('/v1/files')).status, 401);
});
