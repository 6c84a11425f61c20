/** The S3 gateway through AWS's own client, and what it must refuse. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { AwsClient } from 'aws4fetch';
import { S3_SECRET, type Stack, startStack } from '../support/stack.ts';
import { BUCKET, keysUnder, type Storage, s3Client } from '../support/storage.ts';

let stack: Stack;
let s3: Storage;
before(async () => {
  stack = await startStack();
  s3 = s3Client(stack);
});
after(() => stack.stop());

const put = (Key: string, Body: string | Uint8Array | Readable, more: object = {}) =>
  s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body, ...more }));
const bytes = (size: number, seed: number) => new Uint8Array(size).map((_, i) => ((i + seed) * 2_654_435_761) >>> 24);

function refusedWith(code: string, status: number) {
  return (error: unknown) => {
    assert.ok(error instanceof S3ServiceException, String(error));
    assert.deepEqual([error.name, error.$metadata.httpStatusCode], [code, status]);
    return true;
  };
}

test('bytes come back as they went, whatever the key', async () => {
  for (const [i, key] of ['plain', 'a/b/c.bin', 'with space', 'ü/日本', "q?&=+%41#'()*!~", 'a//b'].entries()) {
    const content = bytes(1000 + i, i);
    const { ETag } = await put(key, content);
    assert.deepEqual(await s3.read(key), content, key);
    const head = await s3.send(new HeadObjectCommand({ Bucket: BUCKET, Key: key }));
    assert.deepEqual([head.ContentLength, head.ETag], [content.byteLength, ETag]);
  }
  await put('empty', new Uint8Array());
  assert.equal((await s3.read('empty')).byteLength, 0);
});

test('a large object, as a buffer and as a stream in aws-chunked coding', async () => {
  const content = bytes(9_000_001, 7);
  await put('large', content);
  assert.equal(Buffer.compare(await s3.read('large'), content), 0);
  await put('streamed', Readable.from([content.subarray(0, 5), content.subarray(5, 4_000_000), content.subarray(4_000_000)]), {
    ContentLength: content.byteLength,
  });
  assert.equal(Buffer.compare(await s3.read('streamed'), content), 0);
});

test('ranges are 206 with their bounds', async () => {
  const content = bytes(100, 3);
  await put('ranged', content);
  const cases: [string, number, number][] = [
    ['bytes=0-9', 0, 10],
    ['bytes=90-', 90, 100],
    ['bytes=-7', 93, 100],
    ['bytes=95-200', 95, 100],
  ];
  for (const [range, from, to] of cases) {
    const part = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'ranged', Range: range }));
    assert.equal(part.$metadata.httpStatusCode, 206);
    assert.deepEqual([part.ContentRange, part.ContentLength], [`bytes ${from}-${to - 1}/100`, to - from]);
    assert.deepEqual(await part.Body!.transformToByteArray(), content.slice(from, to));
  }
  await assert.rejects(
    s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'ranged', Range: 'bytes=100-' })),
    refusedWith('InvalidRange', 416),
  );
});

test('listing: prefix, delimiter, pages', async () => {
  const keys = Array.from({ length: 7 }, (_, i) => `list/${i % 2 ? 'odd' : 'even'}/<${i}>`).sort();
  for (const key of keys) await put(key, 'x');
  assert.deepEqual(await keysUnder(s3, 'list/'), keys);
  const folders = await s3.send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix: 'list/', Delimiter: '/' }));
  assert.deepEqual(
    folders.CommonPrefixes?.map((p) => p.Prefix),
    ['list/even/', 'list/odd/'],
  );
  assert.equal(folders.Contents, undefined);
  const paged: string[] = [];
  for (let token: string | undefined, more = true; more; ) {
    const page = await s3.send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix: 'list/', MaxKeys: 3, ContinuationToken: token }));
    paged.push(...(page.Contents ?? []).map((o) => o.Key!));
    [token, more] = [page.NextContinuationToken, page.IsTruncated ?? false];
  }
  assert.deepEqual(paged, keys);
});

test('metadata and preconditions', async () => {
  const { ETag } = await put('meta', 'x', { Metadata: { kind: 'lora' }, ContentType: 'text/x-test' });
  const got = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'meta' }));
  assert.deepEqual([got.Metadata, got.ContentType, got.ETag], [{ kind: 'lora' }, 'text/x-test', ETag]);
  await assert.rejects(put('meta', 'y', { IfNoneMatch: '*' }), refusedWith('PreconditionFailed', 412));
  await put('meta', 'y', { IfMatch: ETag });
  await assert.rejects(
    s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'meta', IfMatch: ETag })),
    refusedWith('PreconditionFailed', 412),
  );
});

test("what is missing or not supported is S3's error", async () => {
  await assert.rejects(s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'none' })), refusedWith('NoSuchKey', 404));
  await assert.rejects(s3.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'none' })), refusedWith('NotFound', 404));
  await assert.rejects(s3.send(new GetObjectCommand({ Bucket: 'other', Key: 'x' })), refusedWith('NoSuchBucket', 404));
  await assert.rejects(s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'plain' })), refusedWith('NotImplemented', 501));
  await assert.rejects(put('x', 'x', { ACL: 'public-read' }), refusedWith('NotImplemented', 501));
  await assert.rejects(put('x', 'x', { ContentMD5: 'AAAAAAAAAAAAAAAAAAAAAA==' }), refusedWith('NotImplemented', 501));
});

test('a body that fails its checksum never becomes an object', async () => {
  await assert.rejects(put('bad', 'body', { ChecksumCRC32: 'AAAAAA==' }), refusedWith('BadDigest', 400));
  await assert.rejects(put('bad', 'body', { ChecksumSHA256: Buffer.alloc(32).toString('base64') }), refusedWith('BadDigest', 400));
  const wrongHash = createHash('sha256').update('another body').digest('hex');
  const aws = new AwsClient({ accessKeyId: 'worker', secretAccessKey: S3_SECRET, service: 's3', region: 'auto', retries: 0 });
  const answer = await aws.fetch(`${stack.edge.url}/s3/${BUCKET}/bad`, {
    method: 'PUT',
    body: 'body',
    headers: { 'x-amz-content-sha256': wrongHash },
  });
  assert.deepEqual([answer.status, /<Code>BadDigest<\/Code>/.test(await answer.text())], [400, true]);
  assert.deepEqual(await keysUnder(s3, 'bad'), []);
});

test('only a valid, recent signature over the whole request is let in', async () => {
  await put('secret', 'x');
  const url = `${stack.edge.url}/s3/${BUCKET}/secret`;
  const wrongSecret = s3Client(stack, 'wrong');
  await assert.rejects(
    wrongSecret.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'secret' })),
    refusedWith('SignatureDoesNotMatch', 403),
  );
  const sign = async (options: { datetime?: string; key?: string } = {}) => {
    const aws = new AwsClient({ accessKeyId: options.key ?? 'worker', secretAccessKey: S3_SECRET, service: 's3', region: 'auto' });
    return aws.sign(url, { aws: options.datetime ? { datetime: options.datetime } : {} });
  };
  const codeOf = async (request: Request | string, init?: RequestInit) =>
    /<Code>(\w+)<\/Code>/.exec(await (await fetch(request, init)).text())?.[1] ?? 'OK';
  const signed = await sign();
  const headers = Object.fromEntries(signed.headers);
  assert.equal(await codeOf(signed), 'OK');
  assert.equal(await codeOf(url), 'AccessDenied');
  assert.equal(await codeOf(url, { headers: { authorization: 'Bearer x' } }), 'AuthorizationHeaderMalformed');
  assert.equal(await codeOf(await sign({ key: 'somebody' })), 'InvalidAccessKeyId');
  assert.equal(await codeOf(`${url}2`, { headers }), 'SignatureDoesNotMatch');
  assert.equal(await codeOf(`${url}?x-id=1`, { headers }), 'SignatureDoesNotMatch');
  assert.equal(await codeOf(url, { headers, method: 'PUT', body: 'y' }), 'SignatureDoesNotMatch');
  assert.equal(await codeOf(url, { headers: { ...headers, 'x-amz-meta-added': '1' } }), 'AccessDenied');
  const at = (ms: number) => new Date(Date.now() + ms).toISOString().replace(/[:-]|\.\d{3}/g, '');
  assert.equal(await codeOf(await sign({ datetime: at(-16 * 60_000) })), 'RequestTimeTooSkewed');
  assert.equal(await codeOf(await sign({ datetime: at(16 * 60_000) })), 'RequestTimeTooSkewed');
  assert.equal(await codeOf(await sign({ datetime: at(-5 * 60_000) })), 'OK');
});
