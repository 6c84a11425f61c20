/** Objects come in parts, whole and in order, within the limit; what breaks on the way is a failure that names the object. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import { openObjectStore } from '../../../gpu-worker/storage/object-store.ts';
import { type ErrorValue, Failure } from '../../../shared/errors.ts';

const PART = 2_500_000;
const content = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7) ^ (i >> 8));

let body: Uint8Array;
/** Entity tag of the object as the nth request finds it. */
let etagAt: (request: number) => string;
/** Bytes that really arrive. */
let arriving: number;
let ranges: string[];

/** S3's GET with one range, as the gateway answers it. */
const server = createServer((request, response) => {
  const range = request.headers.range ?? '';
  const [from, last] = /^bytes=(\d+)-(\d+)$/.exec(range)!.slice(1).map(Number) as [number, number];
  const etag = etagAt(ranges.length);
  ranges.push(range);
  const fail = (status: number, code: string) =>
    response.writeHead(status, { 'content-type': 'application/xml' }).end(`<Error><Code>${code}</Code><Message>no</Message></Error>`);
  if (request.url?.includes('missing')) return fail(404, 'NoSuchKey');
  if (request.headers['if-match'] && request.headers['if-match'] !== etag) return fail(412, 'PreconditionFailed');
  if (from >= body.length) return fail(416, 'InvalidRange');
  const part = body.subarray(from, last + 1);
  const headers = { etag, 'content-length': part.length, 'content-range': `bytes ${from}-${from + part.length - 1}/${body.length}` };
  response.writeHead(206, headers);
  if (part.length <= arriving) return response.end(part);
  response.write(part.subarray(0, arriving), () => response.destroy());
});
let store: ReturnType<typeof openObjectStore>;
before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  store = openObjectStore(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 'secret');
});
after(() => {
  store.close();
  server.close();
});
beforeEach(() => {
  ranges = [];
  etagAt = () => '"one"';
  arriving = Number.POSITIVE_INFINITY;
});

const refusal = async (key: string, limit = 1e9): Promise<ErrorValue> => {
  const error = await store.get(key, limit).then(
    () => assert.fail('it came'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Failure, String(error));
  assert.match(error.message, new RegExp(`get ${key}`));
  return error.value;
};

for (const length of [0, 1, PART - 1, PART, PART + 1, 4 * PART + 17]) {
  test(`an object of ${length} bytes comes whole`, async () => {
    body = content(length);
    assert.ok(Buffer.from(await store.get('key', length)).equals(body));
    assert.equal(ranges.length, Math.max(1, Math.ceil(length / PART)));
  });
}

test('an object beyond the limit is refused after its first part', async () => {
  body = content(3 * PART);
  assert.equal((await refusal('key', 3 * PART - 1)).kind, 'too_large');
  assert.equal(ranges.length, 1);
});

test('an object that is not there', async () => {
  assert.equal((await refusal('missing')).kind, 'not_found');
});

test('a part that breaks off, an object that is written anew between its parts', async () => {
  body = content(2 * PART);
  arriving = 1000;
  assert.equal((await refusal('key')).kind, 'upstream');
  arriving = Number.POSITIVE_INFINITY;
  etagAt = (request) => `"${request}"`;
  assert.equal((await refusal('key')).kind, 'upstream');
});
