/** S3 GetObject and HeadObject on R2. */
import { S3Error } from './errors.ts';

export async function getObject(bucket: R2Bucket, key: string, request: Request): Promise<Response> {
  const ranged = request.headers.has('range');
  const object = await bucket
    .get(key, { onlyIf: request.headers, ...(ranged ? { range: request.headers } : {}) })
    .catch((error: unknown) => {
      throw /range|10039/i.test(String(error)) ? new S3Error('InvalidRange', 'The requested range cannot be satisfied.') : error;
    });
  if (!object) throw noSuchKey(key);
  const headers = describe(object);
  if (!('body' in object)) return unmodified(request, headers);
  const part = ranged && object.range ? bounds(object.range, object.size) : null;
  if (!part) {
    headers.set('content-length', String(object.size));
    return new Response(object.body, { headers });
  }
  headers.set('content-length', String(part.length));
  headers.set('content-range', `bytes ${part.offset}-${part.offset + part.length - 1}/${object.size}`);
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

/** R2 answers with either form, its other fields undefined. */
function bounds(range: { offset?: number; length?: number; suffix?: number }, size: number): { offset: number; length: number } {
  const offset = range.suffix === undefined ? (range.offset ?? 0) : Math.max(0, size - range.suffix);
  return { offset, length: Math.min(range.length ?? size, size - offset) };
}
