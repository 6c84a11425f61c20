/**
 * The adapters of a tenant in D1. A name is free again once its adapter is deleted; versions of one
 * adapter count from 1. Every query names the tenant: another tenant's adapter does not exist.
 */
import { and, asc, desc, eq, sql } from 'drizzle-orm';
import type { Adapter, AdapterSummary } from '../../shared/contract/adapters.ts';
import type { SealResult } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { newAdapterId } from '../../shared/ids.ts';
import type { Env } from '../env.ts';
import { database, isUniqueViolation } from '../storage/database.ts';
import { adapters, adapterVersions } from '../storage/schema.ts';
import { forgetName, modelNotFound } from './names.ts';

type AdapterRow = typeof adapters.$inferSelect;
type VersionRow = typeof adapterVersions.$inferSelect;

const isNewest = sql`${adapterVersions.version} = (select max(version) from adapter_versions where adapter_id = ${adapters.id})`;
const { card: _card, ...summaryColumns } = {
  version: adapterVersions.version,
  digest: adapterVersions.digest,
  bytes: adapterVersions.bytes,
  createdAt: adapterVersions.createdAt,
  card: adapterVersions.card,
};
/** A pin of this version follows the newest. */
export const NEWEST = 0;
/** 1 when the version is pinned, by itself or as the newest. */
const pinned = sql<number>`exists (select 1 from adapter_pins p where p.adapter_id = ${adapters.id}
  and (p.version = ${adapterVersions.version} or (p.version = ${NEWEST} and ${isNewest})))`;

/** The newest version of each adapter, oldest adapter first. */
export async function listAdapters(env: Env, tenant: string): Promise<(AdapterSummary & { tenant: string })[]> {
  const rows = await database(env)
    .select({ adapter: adapters, version: summaryColumns, pinned })
    .from(adapters)
    .innerJoin(adapterVersions, eq(adapterVersions.adapterId, adapters.id))
    .where(and(eq(adapters.tenantId, tenant), isNewest))
    .orderBy(asc(adapters.createdAt), asc(adapters.id));
  return rows.map(({ adapter, version, pinned }) => ({ ...summary(adapter, version, pinned), tenant }));
}

/** The newest version. Throws Failure 'not_found'. */
export async function getAdapter(env: Env, tenant: string, name: string): Promise<Adapter> {
  const row = await database(env)
    .select({ adapter: adapters, version: adapterVersions, pinned })
    .from(adapters)
    .innerJoin(adapterVersions, eq(adapterVersions.adapterId, adapters.id))
    .where(and(eq(adapters.tenantId, tenant), eq(adapters.name, name), isNewest))
    .get();
  if (!row) throw modelNotFound(name, 'name');
  return full(row.adapter, row.version, row.pinned);
}

/** Newest first. Throws Failure 'not_found'. */
export async function listVersions(env: Env, tenant: string, name: string): Promise<AdapterSummary[]> {
  const rows = await database(env)
    .select({ adapter: adapters, version: summaryColumns, pinned })
    .from(adapters)
    .innerJoin(adapterVersions, eq(adapterVersions.adapterId, adapters.id))
    .where(and(eq(adapters.tenantId, tenant), eq(adapters.name, name)))
    .orderBy(desc(adapterVersions.version));
  if (rows.length === 0) throw modelNotFound(name, 'name');
  return rows.map(({ adapter, version, pinned }) => summary(adapter, version, pinned));
}

export async function requireFree(env: Env, tenant: string, name: string): Promise<void> {
  const row = await database(env)
    .select({ id: adapters.id })
    .from(adapters)
    .where(and(eq(adapters.tenantId, tenant), eq(adapters.name, name)))
    .get();
  if (row) throw nameTaken(name);
}

/** Version 1 under a new id. Throws Failure 'conflict' when the name is taken. */
export async function createAdapter(env: Env, tenant: string, name: string, upload: string, sealed: SealResult): Promise<Adapter> {
  const createdAt = Date.now();
  const adapter: AdapterRow = { id: newAdapterId(), tenantId: tenant, name, base: sealed.card.base, createdAt };
  const version: VersionRow = { adapterId: adapter.id, version: 1, ...versionColumns(upload, sealed), createdAt };
  const db = database(env);
  try {
    await db.batch([db.insert(adapters).values(adapter), db.insert(adapterVersions).values(version)]);
  } catch (error) {
    throw isUniqueViolation(error) ? nameTaken(name) : error;
  }
  return full(adapter, version, 0);
}

/** The next version of an adapter; one statement, so that two uploads at once get two numbers. Throws Failure 'not_found' if it was deleted meanwhile. */
export async function addVersion(env: Env, tenant: string, current: Adapter, upload: string, sealed: SealResult): Promise<Adapter> {
  const createdAt = Date.now();
  const columns = versionColumns(upload, sealed);
  const row = await database(env).get<{ version: number; pinned: number } | undefined>(sql`
    insert into adapter_versions (adapter_id, version, digest, base_revision, bytes, upload, card, created_at)
    select adapter_id, max(version) + 1, ${columns.digest}, ${columns.baseRevision}, ${columns.bytes}, ${upload},
      ${JSON.stringify(columns.card)}, ${createdAt}
    from adapter_versions where adapter_id = ${current.id} group by adapter_id
    returning version, exists (select 1 from adapter_pins p where p.adapter_id = ${current.id} and p.version = ${NEWEST}) as pinned`);
  if (!row) throw modelNotFound(current.name, 'name');
  forgetName(tenant, current.name);
  const { id, name, base } = current;
  return full({ id, name, base }, { version: row.version, ...columns, createdAt }, row.pinned);
}

/** Answers the uploads whose packages may go now. Throws Failure 'not_found'. */
export async function deleteAdapter(env: Env, tenant: string, name: string): Promise<{ id: string; uploads: string[] }> {
  const db = database(env);
  const mine = and(eq(adapters.tenantId, tenant), eq(adapters.name, name));
  const [uploads, deleted] = await db.batch([
    db
      .select({ upload: adapterVersions.upload })
      .from(adapterVersions)
      .innerJoin(adapters, eq(adapters.id, adapterVersions.adapterId))
      .where(mine),
    db.delete(adapters).where(mine).returning({ id: adapters.id }),
  ]);
  forgetName(tenant, name);
  const id = deleted[0]?.id;
  if (id === undefined) throw modelNotFound(name, 'name');
  return { id, uploads: uploads.map((u) => u.upload) };
}

function versionColumns(upload: string, sealed: SealResult) {
  return { digest: sealed.digest, baseRevision: sealed.card.base_revision, bytes: sealed.bytes, upload, card: sealed.card };
}

type Named = Pick<AdapterRow, 'id' | 'name' | 'base'>;
type Listed = Pick<VersionRow, 'version' | 'digest' | 'bytes' | 'createdAt'>;

function summary({ id, name, base }: Named, v: Listed, pinned: number): AdapterSummary {
  const created = Math.floor(v.createdAt / 1000);
  return {
    id,
    object: 'adapter',
    name,
    version: v.version,
    digest: v.digest,
    base,
    status: 'ready',
    bytes: v.bytes,
    pinned: pinned === 1,
    created,
  };
}

const full = (adapter: Named, v: Listed & Pick<VersionRow, 'card'>, pinned: number): Adapter => ({
  ...summary(adapter, v, pinned),
  card: v.card,
});

function nameTaken(name: string): Failure {
  const message = `An adapter named ${JSON.stringify(name)} exists: choose another name, delete it, or POST another version of it.`;
  return new Failure({ kind: 'conflict', message, param: 'name', code: 'name_taken' });
}
