/** The S3 gateway on R2: /s3/{bucket}/{key} under SigV4, for the workers' own credential. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { verifySignature } from '../auth/sigv4.ts';
import type { AppEnv, Env } from '../env.ts';
import { errorResponse, S3Error } from '../storage/s3/errors.ts';
import { getObject, headObject } from '../storage/s3/get.ts';
import { listObjects } from '../storage/s3/list.ts';
import { putObject } from '../storage/s3/put.ts';

const BUCKET = 'switchyard';
const ACCESS_KEY_ID = 'worker';

export const s3 = new OpenAPIHono<AppEnv>();

s3.all('/s3/*', async (c) => {
  try {
    return await serve(c.env, c.req.raw);
  } catch (error) {
    if (!(error instanceof S3Error))
      console.error(JSON.stringify({ level: 'error', request_id: c.get('requestId'), error: String(error) }));
    const known = error instanceof S3Error ? error : new S3Error('InternalError', 'The gateway failed.');
    return errorResponse(known, c.req.path, c.get('requestId'), c.req.method !== 'HEAD');
  }
});

async function serve(env: Env, request: Request): Promise<Response> {
  await verifySignature(request, { accessKeyId: ACCESS_KEY_ID, secretAccessKey: env.SWITCHYARD_S3_SECRET }, Date.now());
  const url = new URL(request.url);
  const [, bucket, key] = /^\/s3\/([^/]*)\/?(.*)$/.exec(url.pathname) as unknown as [string, string, string];
  if (bucket !== BUCKET) throw new S3Error('NoSuchBucket', `The bucket ${JSON.stringify(bucket)} does not exist.`);
  if (key === '') {
    if (request.method === 'GET') return listObjects(env.BUCKET, bucket, url.searchParams);
    throw new S3Error('NotImplemented', `${request.method} on a bucket is not supported.`);
  }
  for (const name of url.searchParams.keys()) {
    if (name !== 'x-id') throw new S3Error('NotImplemented', `The query parameter ${name} is not supported.`);
  }
  const object = decodeKey(key);
  switch (request.method) {
    case 'GET':
      return getObject(env.BUCKET, object, request);
    case 'HEAD':
      return headObject(env.BUCKET, object);
    case 'PUT':
      return putObject(env.BUCKET, object, request);
    default:
      throw new S3Error('NotImplemented', `${request.method} on an object is not supported.`);
  }
}

function decodeKey(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw new S3Error('InvalidArgument', 'The key is not valid percent-encoding.');
  }
}
