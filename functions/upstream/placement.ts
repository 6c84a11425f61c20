/**
 * Which worker takes a request: rendezvous hashing on what the request needs resident (base revision and
 * first adapter), so that an adapter stays warm on few workers; bounded by load, so that one popular
 * adapter spills over to the next worker in its own order. Pure.
 */
import type { BaseInfo } from '../../shared/contract/worker.ts';

export interface LiveWorker {
  worker: string;
  url: string;
  bases: BaseInfo[];
  slots: number;
  active: number;
  queued: number;
  /** Milliseconds since the epoch. */
  seenAt: number;
}

/** A worker takes part while its last heartbeat is no older than this. */
export const LIVE_MS = 6_000;
export const HEARTBEAT_INTERVAL_MS = 2_000;
/** A worker is passed over while it is busier than this multiple of the fleet's mean load. */
const LOAD_BOUND = 1.25;

/** Workers that serve `revision`, in the order in which to try them. */
export function order(workers: readonly LiveWorker[], revision: string, digest: string | null): LiveWorker[] {
  const able = workers.filter((w) => w.bases.some((b) => b.revision === revision));
  const loads = able.map(load);
  const bound = Math.max(1, (LOAD_BOUND * loads.reduce((sum, x) => sum + x, 0)) / Math.max(1, able.length));
  return able
    .map((w) => ({ w, over: load(w) > bound, score: fnv1a(`${w.worker}\n${revision}\n${digest ?? ''}`) }))
    .sort((a, b) => Number(a.over) - Number(b.over) || (a.over ? load(a.w) - load(b.w) : b.score - a.score))
    .map(({ w }) => w);
}

/** The worker that is first in the order of these needs while none is busier than the others: where a pinned adapter stays. */
export function homeOf(workers: readonly LiveWorker[], revision: string, digest: string): string | undefined {
  const idle = workers.map((w) => ({ ...w, active: 0, queued: 0 }));
  return order(idle, revision, digest)[0]?.worker;
}

/** Requests per slot: 1 is full, above 1 they queue. */
const load = (w: LiveWorker): number => (w.active + w.queued) / Math.max(1, w.slots);

/** 32-bit FNV-1a with a final avalanche (murmur3's), so that similar names spread. */
function fnv1a(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
