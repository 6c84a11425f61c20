/**
 * Reads what is left of a refused request's body before the refusal leaves. A server that answers and
 * closes while the client still sends makes the client's system report a reset instead of the answer.
 */
import type { MiddlewareHandler } from 'hono';
import type { AppEnv } from '../env.ts';

/** Beyond this a client is cut off. */
const MOST_BYTES = 256 * 1024 * 1024;
const PIECE_BYTES = 256 * 1024;

export const drainRefused = (): MiddlewareHandler<AppEnv> =>
  async function drainRefused(c, next) {
    await next();
    const { body } = c.req.raw;
    if (c.res.status < 400 || !body || body.locked) return;
    // A body that the client broke off is no failure of the answer.
    await drain(body).catch(() => undefined);
  };

async function drain(body: ReadableStream<Uint8Array>): Promise<void> {
  const reader = body.getReader({ mode: 'byob' });
  let buffer = new Uint8Array(PIECE_BYTES);
  for (let size = 0; size < MOST_BYTES; ) {
    const { value, done } = await reader.readAtLeast(PIECE_BYTES, buffer);
    if (done || !value) return;
    size += value.byteLength;
    buffer = new Uint8Array(value.buffer as ArrayBuffer);
  }
}
