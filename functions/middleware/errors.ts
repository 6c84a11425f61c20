/** Everything that goes wrong leaves in OpenAI's error form, through the one wire mapper. */
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { type ErrorValue, Failure, toWire } from '../../shared/errors.ts';
import type { AppEnv } from '../env.ts';

export function answerError(value: ErrorValue): Response {
  const wire = toWire(value);
  return Response.json(wire.body, { status: wire.status, headers: wire.headers });
}

/** hono's onError. */
export function onError(error: Error, c: Context<AppEnv>): Response {
  if (error instanceof Failure) return answerError(error.value);
  if (error instanceof HTTPException && error.status < 500) return answerError({ kind: 'invalid_request', message: error.message });
  console.error(JSON.stringify({ level: 'error', request_id: c.get('requestId'), path: c.req.path, error: error.stack ?? String(error) }));
  return answerError({ kind: 'internal', message: `The edge failed on ${c.req.method} ${c.req.path}; quote ${c.get('requestId')}.` });
}
