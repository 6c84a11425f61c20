/**
 * Looks adapters up by name in D1. What was found last is remembered per isolate, but only as a guess: a
 * request may start on it, and ends unless D1 confirms it (upstream/generate.ts).
 */
import { and, eq, sql } from 'drizzle-orm';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { database } from '../storage/database.ts';
import { adapters, adapterVersions } from '../storage/schema.ts';

/** What one name means. */
export interface Found {
  base: string;
  digest: string;
  baseRevision: string;
}

const REMEMBERED = 20_000;
/** By tenant and name, then by the version asked for ('' is the newest). */
const remembered = new Map<string, Map<string, Found>>();

const keyOf = (tenant: string, name: string): string => `${tenant}\n${name}`;

export function modelNotFound(model: string, param = 'model'): Failure {
  const message = `The model ${JSON.stringify(model)} does not exist or you do not have access to it.`;
  return new Failure({ kind: 'not_found', message, param, code: 'model_not_found' });
}

/** What the name meant when it was last looked up here, null if it never was. */
export function guess(tenant: string, model: string): Found | null {
  const [name, wanted = ''] = model.split('@') as [string, string?];
  return remembered.get(keyOf(tenant, name))?.get(wanted) ?? null;
}

/** After a change of the adapter: what was remembered of it would only cost a second start. */
export function forgetName(tenant: string, name: string): void {
  remembered.delete(keyOf(tenant, name));
}

/** Throws Failure 'not_found', or 'unsupported' for an alias. */
export async function find(env: Env, tenant: string, model: string, param: string): Promise<Found> {
  const [name, wanted, ...rest] = model.split('@') as [string, ...string[]];
  if (wanted !== undefined && (rest.length > 0 || !/^[1-9]\d{0,8}$/.test(wanted))) {
    const message = `${param}: expected name or name@version with a whole number, got ${JSON.stringify(model)}; aliases are not supported.`;
    throw new Failure({ kind: 'unsupported', message, param });
  }
  const newest = sql`(select max(version) from adapter_versions where adapter_id = ${adapters.id})`;
  const version = wanted === undefined ? newest : Number(wanted);
  const row = await database(env)
    .select({ base: adapters.base, digest: adapterVersions.digest, baseRevision: adapterVersions.baseRevision })
    .from(adapters)
    .innerJoin(adapterVersions, eq(adapterVersions.adapterId, adapters.id))
    .where(and(eq(adapters.tenantId, tenant), eq(adapters.name, name), eq(adapterVersions.version, version)))
    .get();
  if (!row) {
    forgetName(tenant, name);
    throw modelNotFound(model, param);
  }
  remember(keyOf(tenant, name), wanted ?? '', row);
  return row;
}

function remember(key: string, wanted: string, found: Found): void {
  if (remembered.size >= REMEMBERED) remembered.clear();
  const versions = remembered.get(key) ?? new Map<string, Found>();
  remembered.set(key, versions.set(wanted, found));
}
