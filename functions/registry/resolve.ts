/**
 * Names → digests, once, at admission. A name is a base's id, or an adapter of the calling tenant as
 * `name` (its newest version) or `name@version`; another tenant's adapter does not exist.
 */
import type { AdapterRef, BaseInfo } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import type { LiveWorker } from '../upstream/placement.ts';
import { absentBases, noWorker, servedBases } from '../upstream/snapshot.ts';
import { type Found, find, guess } from './names.ts';

export interface Resolved {
  base: BaseInfo;
  adapters: AdapterRef[];
}

export interface Asked {
  model: string;
  adapters?: { model: string; weight: number }[] | null | undefined;
}

/** What the request means now, from D1. */
export async function resolve(env: Env, tenant: string, asked: Asked, workers: readonly LiveWorker[]): Promise<Resolved> {
  try {
    const found = await Promise.all(namesIn(asked, workers).map(({ model, param }) => find(env, tenant, model, param)));
    return assemble(asked, found, workers);
  } catch (error) {
    if (!baseOf(asked, workers) && (await absentBases(env)).includes(asked.model)) throw noWorker(JSON.stringify(asked.model));
    throw error;
  }
}

/** What it meant when its names were last looked up here; null without such a memory. */
export function guessed(tenant: string, asked: Asked, workers: readonly LiveWorker[]): Resolved | null {
  const found: Found[] = [];
  for (const { model } of namesIn(asked, workers)) {
    const known = guess(tenant, model);
    if (!known) return null;
    found.push(known);
  }
  return assemble(asked, found, workers);
}

export const isSame = (a: Resolved, b: Resolved): boolean =>
  a.base.revision === b.base.revision && JSON.stringify(a.adapters) === JSON.stringify(b.adapters);

/** The adapters that the request names, and the field that names each. */
function namesIn(asked: Asked, workers: readonly LiveWorker[]): { model: string; param: string }[] {
  if (asked.adapters) return asked.adapters.map(({ model }, i) => ({ model, param: `adapters.${i}.model` }));
  return baseOf(asked, workers) ? [] : [{ model: asked.model, param: 'model' }];
}

const baseOf = (asked: Asked, workers: readonly LiveWorker[]) => servedBases(workers).find((b) => b.id === asked.model);

function assemble(asked: Asked, found: Found[], workers: readonly LiveWorker[]): Resolved {
  const base = baseOf(asked, workers);
  const [first] = found;
  if (!asked.adapters) {
    if (base) return { base, adapters: [] };
    return { base: served(first!, asked.model, workers), adapters: [{ digest: first!.digest, weight: 1 }] };
  }
  if (!base) throw mixtureNeedsBase(asked.model, first!.base);
  const adapters = asked.adapters.map(({ model, weight }, i) => {
    const one = found[i]!;
    if (one.base !== base.id) throw otherBase(model, one.base, base.id, `adapters.${i}.model`);
    served(one, model, workers);
    return { digest: one.digest, weight };
  });
  return { base, adapters };
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
