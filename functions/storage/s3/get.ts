/** S3 GetObject and HeadObject on R2. */
import { S3Error } from './errors.ts';

export async function getObject(bucket: R2Bucket, key: string, request: Request): Promise<Response> {
  const range = parseRange(request.headers.get('range'));
  const object = await bucket.get(key, { onlyIf: request.headers, ...(range ? { range } : {}) }).catch((error: unknown) => {
    throw /range|10039/i.test(String(error)) ? unsatisfiable() : error;
  });
  if (!object) throw noSuchKey(key);
  const headers = describe(object);
  if (!('body' in object)) return unmodified(request, headers);
  if (!range) {
    headers.set('content-length', String(object.size));
    return new Response(object.body, { headers });
  }
  const { from, to } = bounds(range, object.size);
  if (from >= to) throw unsatisfiable();
  headers.set('content-length', String(to - from));
  headers.set('content-range', `bytes ${from}-${to - 1}/${object.size}`);
  return new Response(object.body, { status: 206, headers });
}

export async function headObject(bucket: R2Bucket, key: string): Promise<Response> {
  const object = await bucket.head(key);
  if (!object) throw noSuchKey(key);
  const headers = describe(object);
  headers.set('content-length', String(object.size));
  return new Response(null, { headers });
}

const noSuchKey = (key: string) => new S3Error('NoSuchKey', `The key ${JSON.stringify(key)} does not exist.`);

function describe(object: R2Object): Headers {
  const headers = new Headers({ etag: object.httpEtag, 'last-modified': object.uploaded.toUTCString(), 'accept-ranges': 'bytes' });
  object.writeHttpMetadata(headers);
  for (const [name, value] of Object.entries(object.customMetadata ?? {})) headers.set(`x-amz-meta-${name}`, value);
  return headers;
}

function unmodified(request: Request, headers: Headers): Response {
  if (!request.headers.has('if-none-match') && !request.headers.has('if-modified-since')) {
    throw new S3Error('PreconditionFailed', 'A precondition of the request does not hold.');
  }
  return new Response(null, { status: 304, headers });
}

type Range = { offset: number; length?: number } | { suffix: number };

/**
 * One range of bytes. Anything else in the header is ignored, as RFC 9110 has it. (R2's own parsing answers
 * a range that it cannot satisfy with the whole object.)
 */
function parseRange(header: string | null): Range | null {
  const [, first, last, suffix] = /^bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/.exec(header ?? '') ?? [];
  if (suffix !== undefined) {
    if (Number(suffix) === 0) throw unsatisfiable();
    return { suffix: Number(suffix) };
  }
  if (first === undefined) return null;
  const offset = Number(first);
  if (last === undefined || last === '') return { offset };
  return Number(last) < offset ? null : { offset, length: Number(last) - offset + 1 };
}

function bounds(range: Range, size: number): { from: number; to: number } {
  if ('suffix' in range) return { from: Math.max(0, size - range.suffix), to: size };
  return { from: range.offset, to: Math.min(size, range.offset + (range.length ?? size)) };
}

const unsatisfiable = () => new S3Error('InvalidRange', 'The requested range cannot be satisfied.');
