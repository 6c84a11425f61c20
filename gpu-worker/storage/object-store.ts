/**
 * The worker's only way to storage: the edge's S3 gateway, with the worker's own credential, in
 * development as in production. Large objects come in parts side by side: one stream is limited by its
 * round trips and by the one thread that serves it (9.8 MB through the local edge: 59 ms, in four parts 32).
 */
import type { Readable } from 'node:stream';
import { GetObjectCommand, NoSuchKey, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Failure } from '../../shared/errors.ts';

const BUCKET = 'switchyard';
const PART_BYTES = 2_500_000;

export interface ObjectStore {
  /** The whole object, in memory of its own. Throws Failure 'not_found', or 'too_large' when it has more than `limit` bytes. */
  get(key: string, limit: number): Promise<Uint8Array<ArrayBuffer>>;
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
  const failed =
    (operation: string, key: string) =>
    (cause: unknown): never => {
      if (cause instanceof Failure) throw cause;
      if (cause instanceof NoSuchKey) {
        throw new Failure({ kind: 'not_found', message: `${operation} ${key}: there is no such object`, code: 'not_found' }, { cause });
      }
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new Failure({ kind: 'upstream', message: `${operation} ${key}: object storage failed: ${message}` }, { cause });
    };

  /** Bytes from…from + PART_BYTES − 1, or what there is of them, and the size of the whole object; null when it is empty. */
  async function part(key: string, from: number, etag?: string) {
    const range = `bytes=${from}-${from + PART_BYTES - 1}`;
    const answer = await client
      .send(new GetObjectCommand({ Bucket: BUCKET, Key: key, Range: range, ...(etag ? { IfMatch: etag } : {}) }))
      .catch((cause: unknown) => {
        if (from === 0 && cause instanceof Error && cause.name === 'InvalidRange') return null;
        return failed('get', key)(cause);
      });
    if (!answer) return null;
    const total = /\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1];
    if (!answer.Body || total === undefined)
      throw new Failure({ kind: 'upstream', message: `get ${key}: object storage answered without a range` });
    return { total: Number(total), etag: answer.ETag, body: answer.Body };
  }

  return {
    async get(key, limit) {
      const first = await part(key, 0);
      if (!first) return new Uint8Array(0);
      const { total, etag } = first;
      if (total > limit) {
        (first.body as Readable).destroy();
        throw new Failure({ kind: 'too_large', message: `get ${key}: expected at most ${limit} bytes, the object has ${total}` });
      }
      const whole = new Uint8Array(total);
      const fill = async (from: number) => {
        const { body } = from === 0 ? first : (await part(key, from, etag))!;
        let at = from;
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          whole.set(chunk, at);
          at += chunk.length;
        }
        if (at !== Math.min(total, from + PART_BYTES)) throw new Error(`a part ended after ${at - from} bytes`);
      };
      const starts = Array.from({ length: Math.ceil(total / PART_BYTES) }, (_, i) => i * PART_BYTES);
      await Promise.all(starts.map(fill)).catch(failed('get', key));
      return whole;
    },
    async put(key, bytes) {
      await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: bytes })).catch(failed('put', key));
    },
    close: () => client.destroy(),
  };
}
