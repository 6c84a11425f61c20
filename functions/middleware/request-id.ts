/** Gives each request an id of ours and answers with it, on failures too. */
import type { MiddlewareHandler } from 'hono';
import { newRequestId } from '../../shared/ids.ts';
import type { AppEnv } from '../env.ts';

export const requestId = (): MiddlewareHandler<AppEnv> =>
  async function requestId(c, next) {
    c.set('requestId', newRequestId());
    c.set('arrived', Date.now());
    await next();
    c.res.headers.set('x-request-id', c.get('requestId'));
  };
