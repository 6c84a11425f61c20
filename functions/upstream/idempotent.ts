/**
 * Requests under an Idempotency-Key: one generation and one charge for each key and body. Such a request
 * runs to its end even when its client leaves, since the client will come back for the answer; the answer
 * is stored as the bytes that were sent, streams included.
 */
import type { Context } from 'hono';
import { Failure } from '../../shared/errors.ts';
import { sha256 } from '../auth/keys.ts';
import { ledgerOf } from '../billing/client.ts';
import type { StoredAnswer } from '../billing/ledger-idempotency.ts';
import type { AppEnv } from '../env.ts';
import { PartWriter } from '../storage/part-writer.ts';

const PARAM = 'Idempotency-Key';

/** The header's value, null without one. Throws Failure 'invalid_request'. */
export function idempotencyKey(c: Context<AppEnv>): string | null {
  const key = c.req.header(PARAM);
  if (key === undefined) return null;
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new Failure({ kind: 'invalid_request', message: `${PARAM}: expected 1 to 255 visible ASCII characters`, param: PARAM });
}

/** Runs `generate` if the key is new, replays its answer if it is done. `body` is the request in a form that is equal for equal requests. */
export async function once(
  c: Context<AppEnv>,
  tenant: string,
  key: string,
  body: unknown,
  generate: () => Promise<Response>,
): Promise<Response> {
  const ledger = ledgerOf(c.env, tenant);
  const requestId = c.get('requestId');
  const claim = await ledger.claim(key, await sha256(JSON.stringify([c.req.path, body])), requestId);
  switch (claim.state) {
    case 'new':
      break;
    case 'running':
      throw new Failure({
        kind: 'conflict',
        message: `The request with this ${PARAM} is still running.`,
        param: PARAM,
        code: 'idempotency_key_in_use',
      });
    case 'other-body':
      throw new Failure({
        kind: 'invalid_request',
        message: `This ${PARAM} was used with another body.`,
        param: PARAM,
        code: 'idempotency_key_reused',
      });
    case 'done':
      return replay(c, claim.answer);
    default:
      return claim satisfies never;
  }
  const forget = () => ledger.forget(key, requestId);
  const answer = await generate().catch(async (error: unknown) => {
    await forget();
    throw error;
  });
  if (!answer.ok || !answer.body) {
    await forget();
    return answer;
  }
  const [forClient, forStore] = answer.body.tee();
  const stored = {
    requestId,
    contentType: answer.headers.get('content-type') ?? 'application/json',
    object: `idempotency/${tenant}/${requestId}`,
  };
  c.executionCtx.waitUntil(store(c.env.BUCKET, stored.object, forStore).then(() => ledger.finish(key, stored), forget));
  return new Response(forClient, answer);
}

async function store(bucket: R2Bucket, object: string, body: ReadableStream<Uint8Array>): Promise<void> {
  const writer = new PartWriter(bucket, object);
  try {
    for await (const chunk of body) await writer.write(chunk);
    await writer.close();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

async function replay(c: Context<AppEnv>, answer: StoredAnswer): Promise<Response> {
  const object = await c.env.BUCKET.get(answer.object);
  if (!object) throw new Failure({ kind: 'internal', message: `The stored answer of ${answer.requestId} is missing.` });
  c.set('requestId', answer.requestId);
  return new Response(object.body, { headers: { 'content-type': answer.contentType, 'idempotent-replayed': 'true' } });
}
