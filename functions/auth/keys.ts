/**
 * API keys: made once, shown once, kept as SHA-256. A key is looked up by its public id and compared
 * in constant time; the outcome is remembered per isolate for a few seconds, so revoking takes effect
 * within that time.
 */
import { and, eq, isNull } from 'drizzle-orm';
import { Failure } from '../../shared/errors.ts';
import { ApiKey, randomId } from '../../shared/ids.ts';
import type { Env } from '../env.ts';
import { database } from '../storage/database.ts';
import { apiKeys, tenants } from '../storage/schema.ts';

interface Caller {
  id: string;
  name: string;
  metered: boolean;
  weight: number;
}

export type Principal = { kind: 'admin' } | { kind: 'tenant'; tenant: Caller; keyId: string };

const CACHE_MS = 5_000;
const CACHE_ENTRIES = 10_000;
const cache = new Map<string, { principal: Principal; until: number }>();

/** SHA-256, hex. */
export async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** A new tenant key; `key` is not stored anywhere. */
export async function mintKey(): Promise<{ id: string; key: string; hash: string }> {
  const id = randomId(12);
  const key = `sy_tenant_${id}_${randomId(40)}`;
  return { id, key, hash: await sha256(key) };
}

export function equalHex(a: string, b: string): boolean {
  const [x, y] = [new TextEncoder().encode(a), new TextEncoder().encode(b)];
  return x.byteLength === y.byteLength && crypto.subtle.timingSafeEqual(x, y);
}

/** Who presents `authorization`. Throws Failure 'unauthenticated'. */
export async function authenticate(env: Env, authorization: string | undefined, now: number): Promise<Principal> {
  const key = /^Bearer\s+(\S+)$/i.exec(authorization ?? '')?.[1];
  if (!key) throw new Failure({ kind: 'unauthenticated', message: 'No API key given: expected the header "Authorization: Bearer sy_…".' });
  const wrong = new Failure({ kind: 'unauthenticated', message: 'Incorrect API key: it is malformed, unknown or revoked.' });
  if (!ApiKey.safeParse(key).success) throw wrong;
  const hash = await sha256(key);
  const known = cache.get(hash);
  if (known && known.until > now) return known.principal;
  const principal = await lookUp(env, key, hash);
  if (!principal) {
    cache.delete(hash);
    throw wrong;
  }
  if (cache.size >= CACHE_ENTRIES) cache.clear();
  cache.set(hash, { principal, until: now + CACHE_MS });
  return principal;
}

async function lookUp(env: Env, key: string, hash: string): Promise<Principal | null> {
  const [, kind, id] = key.split('_') as [string, string, string];
  if (kind === 'admin') return equalHex(hash, env.SWITCHYARD_ADMIN_KEY_HASH) ? { kind: 'admin' } : null;
  const row = await database(env)
    .select({ hash: apiKeys.hash, tenant: tenants })
    .from(apiKeys)
    .innerJoin(tenants, eq(tenants.id, apiKeys.tenantId))
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
    .get();
  if (!row || !equalHex(hash, row.hash)) return null;
  const { id: tenantId, name, creditNano, budgetNano, weight } = row.tenant;
  return { kind: 'tenant', tenant: { id: tenantId, name, metered: creditNano !== null || budgetNano !== null, weight }, keyId: id };
}
