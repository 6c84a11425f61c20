/** The Worker's bindings (wrangler.toml) and what middleware leaves on a request's context. */

import type { Principal } from './auth/keys.ts';
import type { Batches } from './batches/batches.ts';
import type { UsageDoorbell } from './billing/export.ts';
import type { Ledger } from './billing/ledger.ts';
import type { Fleet } from './upstream/fleet.ts';

export interface Env {
  DB: D1Database;
  BUCKET: R2Bucket;
  BATCHES: DurableObjectNamespace<Batches>;
  FLEET: DurableObjectNamespace<Fleet>;
  LEDGER: DurableObjectNamespace<Ledger>;
  USAGE_QUEUE: Queue<UsageDoorbell>;
  /** Shared with the workers: signs calls in both directions. */
  SWITCHYARD_SECRET: string;
  /** SHA-256 of the administrator's key, 64 hex digits. */
  SWITCHYARD_ADMIN_KEY_HASH: string;
  /** Secret of the S3 credential `worker`. */
  SWITCHYARD_S3_SECRET: string;
}

export interface AppEnv {
  Bindings: Env;
  Variables: {
    requestId: string;
    /** A traceparent: the span of this request at the edge. */
    trace: string;
    /** Date.now() at arrival. */
    arrived: number;
    principal: Principal;
  };
}
