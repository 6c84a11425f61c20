/** Gives each request an id of ours, answers with it, on failures too, and logs how it went if its trace is sampled. */
import type { MiddlewareHandler } from 'hono';
import { isSampled, TRACE_HEADER, traceOf } from '../../shared/contract/trace.ts';
import { newRequestId } from '../../shared/ids.ts';
import type { AppEnv } from '../env.ts';

export const requestId = (): MiddlewareHandler<AppEnv> =>
  async function requestId(c, next) {
    c.set('requestId', newRequestId());
    c.set('trace', traceOf(c.req.header(TRACE_HEADER)));
    c.set('arrived', Date.now());
    await next();
    c.res.headers.set('x-request-id', c.get('requestId'));
    if (!isSampled(c.get('trace'))) return;
    const call = { request_id: c.get('requestId'), traceparent: c.get('trace'), method: c.req.method, path: c.req.path };
    // Standard error is what the local runtime's log file keeps.
    console.warn(JSON.stringify({ level: 'info', ...call, status: c.res.status, ms: Date.now() - c.get('arrived') }));
  };
