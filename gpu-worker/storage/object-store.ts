/**
 * The worker's only way to storage: the edge's S3 gateway, with the worker's own credential, in
 * development as in production.
 */
import { GetObjectCommand, NoSuchKey, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Failure } from '../../shared/errors.ts';

const BUCKET = 'switchyard';

export interface ObjectStore {
  /** The whole object. Throws Failure 'not_found', or 'too_large' when it has more than `limit` bytes. */
  get(key: string, limit: number): Promise<Uint8Array>;
  put(key: string, bytes: Uint8Array): Promise<void>;
}

export function openObjectStore(edgeUrl: string, secret: string): ObjectStore & { close(): void } {
  const client = new S3Client({
    endpoint: `${edgeUrl}/s3`,
    region: 'auto',
    forcePathStyle: true,
    credentials: { accessKeyId: 'worker', secretAccessKey: secret },
    maxAttempts: 4,
    // The Workers runtime never answers 100 Continue; the client would wait six seconds for it before each large PUT.
    expectContinueHeader: false,
  });
  const failed = (operation: string, key: string) => (cause: unknown) => {
    if (cause instanceof NoSuchKey) {
      throw new Failure({ kind: 'not_found', message: `${operation} ${key}: there is no such object`, code: 'not_found' }, { cause });
    }
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new Failure({ kind: 'upstream', message: `${operation} ${key}: object storage failed: ${message}` }, { cause });
  };
  return {
    async get(key, limit) {
      const answer = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key })).catch(failed('get', key));
      const bytes = answer.ContentLength;
      if (!answer.Body || bytes === undefined)
        throw new Failure({ kind: 'upstream', message: `get ${key}: object storage told no length` });
      if (bytes > limit) {
        throw new Failure({ kind: 'too_large', message: `get ${key}: expected at most ${limit} bytes, the object has ${bytes}` });
      }
      return await answer.Body.transformToByteArray().catch(failed('get', key));
    },
    async put(key, bytes) {
      await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: bytes })).catch(failed('put', key));
    },
    close: () => client.destroy(),
  };
}
