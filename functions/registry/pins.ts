/**
 * Pinned adapters: one worker keeps each in memory, so that its first token never waits for a load. A pin names a
 * version or follows the newest. Workers learn of them with their heartbeats (routes/internal.ts).
 */
import { sql } from 'drizzle-orm';
import type { Adapter } from '../../shared/contract/adapters.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { database } from '../storage/database.ts';
import { getAdapter, listVersions, NEWEST } from './adapters.ts';
import { modelNotFound } from './names.ts';

/** Memory is shared by all tenants. */
export const MOST_PINS = 4;

/** Throws Failure 'not_found' without such an adapter or version, 'conflict' beyond the tenant's limit. */
export async function pinAdapter(env: Env, tenant: string, name: string, version: number | null): Promise<Adapter> {
  const { id } = await getAdapter(env, tenant, name);
  if (version !== null && !(await listVersions(env, tenant, name)).some((v) => v.version === version)) {
    throw modelNotFound(`${name}@${version}`, 'version');
  }
  const mine = sql`from adapter_pins p join adapters a on a.id = p.adapter_id where a.tenant_id = ${tenant}`;
  const wanted = version ?? NEWEST;
  const db = database(env);
  // One statement, so that two at once cannot pass the limit together.
  const row = await db.get<{ version: number } | undefined>(sql`
    insert into adapter_pins (adapter_id, version, created_at)
    select ${id}, ${wanted}, ${Date.now()}
    where (select count(*) ${mine}) < ${MOST_PINS}
      or exists (select 1 from adapter_pins where adapter_id = ${id} and version = ${wanted})
    on conflict do update set created_at = created_at
    returning version`);
  if (!row) {
    const pinned = await db.all<{ name: string }>(sql`select distinct a.name ${mine} order by a.name`);
    const names = pinned.map((p) => p.name).join(', ');
    const message = `pin ${JSON.stringify(name)}: at most ${MOST_PINS} adapters of a tenant may be pinned, and these are: ${names}. Unpin one first.`;
    throw new Failure({ kind: 'conflict', message, param: 'pinned', code: 'pin_limit' });
  }
  return getAdapter(env, tenant, name);
}

/** Drops the pin of one version, or every pin of the adapter. Throws Failure 'not_found'. */
export async function unpinAdapter(env: Env, tenant: string, name: string, version: number | null): Promise<Adapter> {
  const { id } = await getAdapter(env, tenant, name);
  const one = version === null ? sql`` : sql`and version = ${version}`;
  await database(env).run(sql`delete from adapter_pins where adapter_id = ${id} ${one}`);
  return getAdapter(env, tenant, name);
}

/** Digests that are pinned for a base, those pinned first in front. */
export async function pinnedDigests(env: Env, baseRevision: string): Promise<string[]> {
  const rows = await database(env).all<{ digest: string }>(sql`
    select v.digest as digest, min(p.created_at) as since
    from adapter_pins p join adapter_versions v on v.adapter_id = p.adapter_id
    where v.base_revision = ${baseRevision} and v.version = case p.version
      when ${NEWEST} then (select max(version) from adapter_versions w where w.adapter_id = p.adapter_id)
      else p.version end
    group by v.digest order by since, v.digest`);
  return rows.map(({ digest }) => digest);
}
