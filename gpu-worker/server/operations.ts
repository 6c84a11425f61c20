/** What operators and the edge ask about the worker itself: its count of tokens, whether it lives, what it holds. */
import type { Engine } from '../../shared/contract/engine.ts';
import type { Totals } from '../../shared/contract/worker.ts';
import type { ImageLoader } from '../adapters/loader.ts';
import type { AdapterTier } from './adapter-tier.ts';
import { type Route, sendJson } from './http.ts';
import type { Measures } from './metrics.ts';
import type { Outbox } from './outbox.ts';

export interface OperationOptions {
  worker: string;
  engine: Engine;
  outbox: Outbox;
  measures: Measures;
  adapters: Pick<AdapterTier, 'state'>;
  images: Pick<ImageLoader, 'disk'>;
}

export function operationRoutes({ worker, engine, outbox, measures, adapters, images }: OperationOptions): Route[] {
  return [
    {
      method: 'GET',
      path: '/totals',
      signed: true,
      async handle(_body, response) {
        const totals: Totals = { worker, tenants: await outbox.totals() };
        sendJson(response, totals);
      },
    },
    {
      method: 'GET',
      path: '/ready',
      signed: true,
      async handle(_body, response) {
        sendJson(response, { status: 'ready', worker, base: engine.base, stats: await engine.stats() });
      },
    },
    {
      method: 'GET',
      path: '/health',
      signed: false,
      async handle(_body, response) {
        sendJson(response, { status: 'ok', worker });
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      signed: false,
      async handle(_body, response) {
        const { contentType, text } = await measures.render(adapters.state, images.disk);
        response.writeHead(200, { 'content-type': contentType }).end(text);
      },
    },
  ];
}
