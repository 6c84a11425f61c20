/** Entry point of the Worker: HTTP, the usage queue's consumer, and the Durable Object classes. */
import { app } from './app.ts';
import { consumeUsage, type UsageDoorbell } from './billing/export.ts';
import type { Env } from './env.ts';

export { Batches } from './batches/batches.ts';
export { Ledger } from './billing/ledger.ts';
export { Fleet } from './upstream/fleet.ts';

export default { fetch: app.fetch, queue: consumeUsage } satisfies ExportedHandler<Env, UsageDoorbell>;
