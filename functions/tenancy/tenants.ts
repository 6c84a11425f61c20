/** Tenants and keys in D1; a tenant's money is opened at its ledger before the tenant can be used. */
import { and, asc, eq, isNull } from 'drizzle-orm';
import type { z } from 'zod';
import { NANO, nanoOfUsd } from '../../shared/billing/amounts.ts';
import type { CreateTenant, Key, Tenant, UpdateTenant } from '../../shared/contract/admin.ts';
import { Failure } from '../../shared/errors.ts';
import { newTenantId } from '../../shared/ids.ts';
import { mintKey } from '../auth/keys.ts';
import { ledgerOf } from '../billing/client.ts';
import type { Env } from '../env.ts';
import { database } from '../storage/database.ts';
import { apiKeys, tenants } from '../storage/schema.ts';

type TenantRow = typeof tenants.$inferSelect;

export async function createTenant(env: Env, input: z.infer<typeof CreateTenant>): Promise<Tenant & { key: string }> {
  const usdToNano = (usd: number | null | undefined) => (usd == null ? null : nanoOfUsd(usd));
  const limits = { creditNano: usdToNano(input.credit), budgetNano: usdToNano(input.budget) };
  const row: TenantRow = { id: newTenantId(), name: input.name, weight: input.weight ?? 1, ...limits, createdAt: Date.now() };
  await ledgerOf(env, row.id).open(row.id, limits);
  const { id, key, hash } = await mintKey();
  const db = database(env);
  await db.batch([
    db.insert(tenants).values(row),
    db.insert(apiKeys).values({ id, tenantId: row.id, name: 'default', hash, createdAt: row.createdAt, revokedAt: null }),
  ]);
  return { ...toTenant(row), key };
}

export async function listTenants(env: Env): Promise<Tenant[]> {
  return (await database(env).select().from(tenants).orderBy(asc(tenants.createdAt), asc(tenants.id))).map(toTenant);
}

/** Throws Failure 'not_found'. */
export async function getTenant(env: Env, id: string): Promise<Tenant> {
  const row = await database(env).select().from(tenants).where(eq(tenants.id, id)).get();
  if (!row) throw notFound('tenant', id);
  return toTenant(row);
}

/** Keys that are remembered go on with what was for a few seconds. Throws Failure 'not_found'. */
export async function updateTenant(env: Env, id: string, changes: z.infer<typeof UpdateTenant>): Promise<Tenant> {
  const row = await database(env).update(tenants).set(changes).where(eq(tenants.id, id)).returning().get();
  if (!row) throw notFound('tenant', id);
  return toTenant(row);
}

export async function createKey(env: Env, tenantId: string, name: string): Promise<Key & { key: string }> {
  await getTenant(env, tenantId);
  const { id, key, hash } = await mintKey();
  const row = { id, tenantId, name, hash, createdAt: Date.now(), revokedAt: null };
  await database(env).insert(apiKeys).values(row);
  return { ...toKey(row), key };
}

export async function listKeys(env: Env, tenantId: string): Promise<Key[]> {
  await getTenant(env, tenantId);
  const rows = await database(env)
    .select()
    .from(apiKeys)
    .where(eq(apiKeys.tenantId, tenantId))
    .orderBy(asc(apiKeys.createdAt), asc(apiKeys.id));
  return rows.map(toKey);
}

/** Revoked keys stay listed. Throws Failure 'not_found', also for a key that is revoked already. */
export async function revokeKey(env: Env, tenantId: string, id: string): Promise<Key> {
  const row = await database(env)
    .update(apiKeys)
    .set({ revokedAt: Date.now() })
    .where(and(eq(apiKeys.id, id), eq(apiKeys.tenantId, tenantId), isNull(apiKeys.revokedAt)))
    .returning()
    .get();
  if (!row) throw notFound('key', id);
  return toKey(row);
}

function notFound(what: string, id: string): Failure {
  return new Failure({ kind: 'not_found', message: `No ${what} ${JSON.stringify(id)}.`, code: 'not_found' });
}

const usd = (nano: number | null) => (nano === null ? null : nano / NANO);
const seconds = (ms: number) => Math.floor(ms / 1000);

function toTenant(row: TenantRow): Tenant {
  const { id, name, weight } = row;
  return { id, name, weight, credit: usd(row.creditNano), budget: usd(row.budgetNano), created: seconds(row.createdAt) };
}

function toKey(row: typeof apiKeys.$inferSelect): Key {
  return { id: row.id, name: row.name, created: seconds(row.createdAt), revoked: row.revokedAt === null ? null : seconds(row.revokedAt) };
}
