/** S3 PutObject on R2: bodies are streamed, and every checksum that the client sends is checked before the object exists. */
import { BODY_LIMIT } from '../../middleware/body.ts';
import { ChunkedDecoder, ChunkedFormatError } from './chunked.ts';
import { crc32, crc32Base64 } from './crc32.ts';
import { S3Error } from './errors.ts';

const UNSIGNED = 'UNSIGNED-PAYLOAD';
const CHUNKED = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';
const CRC32 = 'x-amz-checksum-crc32';
const PIECE_BYTES = 512 * 1024;
/** x-amz-* headers with a meaning here; x-amz-meta-* are kept with the object. */
const KNOWN = new Set([
  ...['x-amz-content-sha256', 'x-amz-date', 'x-amz-user-agent', 'x-amz-decoded-content-length', 'x-amz-trailer'],
  ...['x-amz-sdk-checksum-algorithm', CRC32, 'x-amz-checksum-sha256'],
]);

export async function putObject(bucket: R2Bucket, key: string, request: Request): Promise<Response> {
  const { headers } = request;
  for (const name of headers.keys()) {
    if (name.startsWith('x-amz-') && !name.startsWith('x-amz-meta-') && !KNOWN.has(name)) {
      throw new S3Error('NotImplemented', `The header ${name} is not supported.`);
    }
  }
  const payload = headers.get('x-amz-content-sha256') ?? UNSIGNED;
  const chunked = payload === CHUNKED;
  if (!chunked && payload !== UNSIGNED && !/^[0-9a-f]{64}$/.test(payload)) {
    throw new S3Error('NotImplemented', `x-amz-content-sha256: ${payload} is not supported.`);
  }
  const length = contentLength(headers, chunked);
  const options: R2PutOptions = { httpMetadata: httpMetadata(headers), customMetadata: customMetadata(headers), onlyIf: headers };
  const sha256 = headers.get('x-amz-checksum-sha256');
  if (sha256 !== null) options.sha256 = base64(sha256, 'x-amz-checksum-sha256');
  else if (!chunked && payload !== UNSIGNED) options.sha256 = payload;
  if (headers.has('content-md5')) throw new S3Error('NotImplemented', 'The header content-md5 is not supported.');
  const body = new FixedLengthStream(length);
  const [stored] = await Promise.all([
    bucket.put(key, body.readable, options).catch((error: unknown) => {
      throw String(error).includes('checksum') ? new S3Error('BadDigest', 'The body does not match the digest that was sent.') : error;
    }),
    copy(request.body, body.writable, { chunked, crc32: headers.get(CRC32) }),
  ]).catch((error: unknown) => {
    throw error instanceof ChunkedFormatError ? new S3Error('IncompleteBody', `aws-chunked: ${error.message}`) : error;
  });
  if (!stored) throw new S3Error('PreconditionFailed', 'A precondition of the request does not hold.');
  return new Response(null, { headers: { etag: stored.httpEtag } });
}

/**
 * Copies the decoded body. The last piece is held back until the checksum is known, so that a body which
 * fails it never becomes an object.
 */
async function copy(
  source: ReadableStream<Uint8Array> | null,
  target: WritableStream<Uint8Array>,
  expected: { chunked: boolean; crc32: string | null },
): Promise<void> {
  const writer = target.getWriter();
  try {
    const decoder = expected.chunked ? new ChunkedDecoder() : null;
    let crc = 0;
    let held: Uint8Array | null = null;
    for await (const chunk of largePieces(source)) {
      for (const piece of decoder ? decoder.write(chunk) : [chunk]) {
        if (piece.byteLength === 0) continue;
        if (held) await writer.write(held);
        if (decoder || expected.crc32 !== null) crc = crc32(piece, crc);
        held = piece;
      }
    }
    if (decoder && !decoder.done) throw new ChunkedFormatError('the body ends early');
    const checksum = expected.crc32 ?? decoder?.trailers.get(CRC32);
    if (checksum != null && checksum !== crc32Base64(crc)) throw new S3Error('BadDigest', 'The body does not match its CRC-32.');
    for (const name of decoder?.trailers.keys() ?? []) {
      if (name !== CRC32) throw new S3Error('NotImplemented', `The trailer ${name} is not supported.`);
    }
    if (held) await writer.write(held);
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(() => undefined);
    throw error;
  }
}

/** A body arrives in pieces of 4 KB, and each costs a round trip into R2's stream: gathers them. */
async function* largePieces(source: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  const reader = source?.getReader({ mode: 'byob' });
  while (reader) {
    const { value, done } = await reader.readAtLeast(PIECE_BYTES, new Uint8Array(PIECE_BYTES));
    if (value && value.byteLength > 0) yield value;
    if (done) return;
  }
}

function contentLength(headers: Headers, chunked: boolean): number {
  const name = chunked ? 'x-amz-decoded-content-length' : 'content-length';
  const length = headers.get(name);
  if (length === null || !/^\d{1,12}$/.test(length)) throw new S3Error('MissingContentLength', `The header ${name} is required.`);
  if (Number(length) > BODY_LIMIT) {
    throw new S3Error('EntityTooLarge', `The body is larger than ${BODY_LIMIT} bytes: use a multipart upload.`);
  }
  return Number(length);
}

function httpMetadata(headers: Headers): R2HTTPMetadata {
  const codings = (headers.get('content-encoding') ?? '')
    .split(',')
    .map((s) => s.trim())
    .filter((s) => s !== '' && s !== 'aws-chunked');
  const [contentType, cacheControl] = [headers.get('content-type'), headers.get('cache-control')];
  return {
    ...(contentType === null ? {} : { contentType }),
    ...(cacheControl === null ? {} : { cacheControl }),
    ...(codings.length === 0 ? {} : { contentEncoding: codings.join(', ') }),
  };
}

function customMetadata(headers: Headers): Record<string, string> {
  const prefix = 'x-amz-meta-';
  return Object.fromEntries(
    [...headers].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]),
  );
}

function base64(text: string, header: string): ArrayBuffer {
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  } catch {
    throw new S3Error('InvalidArgument', `${header}: expected base64.`);
  }
}
