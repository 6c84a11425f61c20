/**
 * Names → digests, once, at admission. A name is a base's id, or an adapter of the calling tenant as
 * `name` (its newest version) or `name@version`; another tenant's adapter does not exist.
 */
import { and, eq, sql } from 'drizzle-orm';
import type { AdapterRef, BaseInfo } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { type Database, database } from '../storage/database.ts';
import { adapters, adapterVersions } from '../storage/schema.ts';
import type { LiveWorker } from '../upstream/placement.ts';
import { noWorker, servedBases } from '../upstream/snapshot.ts';

export interface Resolved {
  base: BaseInfo;
  adapters: AdapterRef[];
}

interface Asked {
  model: string;
  adapters?: { model: string; weight: number }[] | null | undefined;
}

export function modelNotFound(model: string, param = 'model'): Failure {
  const message = `The model ${JSON.stringify(model)} does not exist or you do not have access to it.`;
  return new Failure({ kind: 'not_found', message, param, code: 'model_not_found' });
}

export async function resolve(env: Env, tenant: string, asked: Asked, workers: readonly LiveWorker[]): Promise<Resolved> {
  const bases = servedBases(workers);
  const base = bases.find((b) => b.id === asked.model);
  if (asked.adapters) {
    const mixture = await Promise.all(asked.adapters.map((a, i) => find(database(env), tenant, a.model, `adapters.${i}.model`)));
    if (!base) throw mixtureNeedsBase(asked.model, mixture[0]!.base);
    for (const [i, m] of mixture.entries()) {
      if (m.base !== base.id) throw otherBase(asked.adapters[i]!.model, m.base, base.id, `adapters.${i}.model`);
      served(m, asked.adapters[i]!.model, workers);
    }
    return { base, adapters: mixture.map((m, i) => ({ digest: m.digest, weight: asked.adapters![i]!.weight })) };
  }
  if (base) return { base, adapters: [] };
  const found = await find(database(env), tenant, asked.model, 'model');
  return { base: served(found, asked.model, workers), adapters: [{ digest: found.digest, weight: 1 }] };
}

interface Found {
  base: string;
  digest: string;
  baseRevision: string;
}

async function find(db: Database, tenant: string, model: string, param: string): Promise<Found> {
  const [name, wanted, ...rest] = model.split('@') as [string, ...string[]];
  if (wanted !== undefined && (rest.length > 0 || !/^[1-9]\d{0,8}$/.test(wanted))) {
    const message = `${param}: expected name or name@version with a whole number, got ${JSON.stringify(model)}; aliases are not supported.`;
    throw new Failure({ kind: 'unsupported', message, param });
  }
  const newest = sql`(select max(version) from adapter_versions where adapter_id = ${adapters.id})`;
  const row = await db
    .select({ base: adapters.base, digest: adapterVersions.digest, baseRevision: adapterVersions.baseRevision })
    .from(adapters)
    .innerJoin(adapterVersions, eq(adapterVersions.adapterId, adapters.id))
    .where(
      and(
        eq(adapters.tenantId, tenant),
        eq(adapters.name, name),
        eq(adapterVersions.version, wanted === undefined ? newest : Number(wanted)),
      ),
    )
    .get();
  if (!row) throw modelNotFound(model, param);
  return row;
}

/** The base that the adapter was sealed for, as a live worker serves it. */
function served(found: Found, model: string, workers: readonly LiveWorker[]): BaseInfo {
  const base = workers.flatMap((w) => w.bases).find((b) => b.id === found.base && b.revision === found.baseRevision);
  if (base) return base;
  throw noWorker(`${JSON.stringify(model)} (base ${found.base}, revision ${found.baseRevision.slice(0, 12)})`);
}

function mixtureNeedsBase(model: string, base: string): Failure {
  const message = `model: with adapters, expected the id of their base (${JSON.stringify(base)}), got ${JSON.stringify(model)}`;
  return new Failure({ kind: 'invalid_request', message, param: 'model' });
}

function otherBase(model: string, got: string, expected: string, param: string): Failure {
  const message = `${param}: ${JSON.stringify(model)} is an adapter of ${JSON.stringify(got)}, expected one of ${JSON.stringify(expected)}`;
  return new Failure({ kind: 'invalid_request', message, param });
}
