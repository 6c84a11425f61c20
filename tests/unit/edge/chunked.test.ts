/** The aws-chunked decoder: any cut of a valid body decodes alike, anything else is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { ChunkedDecoder, ChunkedFormatError } from '../../../functions/storage/s3/chunked.ts';
import { crc32, crc32Base64 } from '../../../functions/storage/s3/crc32.ts';

function encode(chunks: Uint8Array[], trailers: Record<string, string>): Buffer {
  const parts = chunks.flatMap((c) => [Buffer.from(`${c.length.toString(16)}\r\n`), c, Buffer.from('\r\n')]);
  const tail = Object.entries(trailers).map(([name, value]) => `${name}:${value}\r\n`);
  return Buffer.concat([...parts, Buffer.from(`0\r\n${tail.join('')}\r\n`)]);
}

function decode(body: Uint8Array, cuts: number[]): { decoder: ChunkedDecoder; content: Buffer } {
  const decoder = new ChunkedDecoder();
  const edges = [0, ...cuts.map((c) => c % (body.length + 1)).sort((a, b) => a - b), body.length];
  const content = edges.slice(1).flatMap((end, i) => decoder.write(body.subarray(edges[i], end)));
  return { decoder, content: Buffer.concat(content) };
}

const chunk = fc.uint8Array({ minLength: 1, maxLength: 300 });
const cuts = fc.array(fc.nat(), { maxLength: 20 });

test('however it is cut, a body decodes to its content and trailers', () => {
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 5 }), cuts, (chunks, at) => {
      const trailers = { 'x-amz-checksum-crc32': 'AAAAAA==' };
      const { decoder, content } = decode(encode(chunks, trailers), at);
      assert.ok(decoder.done);
      assert.deepEqual(content, Buffer.concat(chunks));
      assert.deepEqual(Object.fromEntries(decoder.trailers), trailers);
    }),
  );
});

test('a body that ends early is never done', () => {
  fc.assert(
    fc.property(fc.array(chunk, { minLength: 1, maxLength: 3 }), fc.nat(), (chunks, n) => {
      const body = encode(chunks, { a: 'b' });
      assert.equal(decode(body.subarray(0, n % body.length), []).decoder.done, false);
    }),
  );
});

test('what is malformed is refused; arbitrary bytes never do worse than that', () => {
  const bad = [
    'x\r\n',
    '-1\r\n',
    '5\nhello\r\n',
    '5\r\nhelloo\r\n0\r\n\r\n',
    '0\r\n\r\nx',
    `${'0'.repeat(2000)}\r\n`,
    '0\r\nno colon\r\n\r\n',
    '\r\n',
  ];
  for (const text of bad) assert.throws(() => decode(Buffer.from(text), []), ChunkedFormatError, text.slice(0, 20));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), cuts, (bytes, at) => {
      try {
        decode(bytes, at);
      } catch (error) {
        assert.ok(error instanceof ChunkedFormatError);
      }
    }),
  );
});

test("the checksum is zlib's, over any cut", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      const whole = zlibCrc32(Buffer.concat([a, b]));
      assert.equal(crc32(b, crc32(a)), whole);
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(whole);
      assert.equal(crc32Base64(whole), bytes.toString('base64'));
    }),
  );
});
