/**
 * The Fleet object: one for the platform, knows which workers live. Its state is soft and kept in
 * memory only: after a restart the next heartbeats (two seconds apart) rebuild it.
 */
import { DurableObject } from 'cloudflare:workers';
import type { Heartbeat } from '../../shared/contract/worker.ts';
import type { Env } from '../env.ts';
import { LIVE_MS, type LiveWorker } from './placement.ts';

/** A base that nobody serves any more is expected back for as long. */
const EXPECTED_MS = 3_600_000;

export class Fleet extends DurableObject<Env> {
  #workers = new Map<string, LiveWorker>();
  /** When each base was last heard of, by id. */
  #bases = new Map<string, number>();

  heartbeat(beat: Heartbeat): void {
    const { worker, url, bases, slots, active, queued } = beat;
    this.#workers.set(worker, { worker, url, bases, slots, active, queued, seenAt: Date.now() });
    for (const { id } of bases) this.#bases.set(id, Date.now());
  }

  /** Ids of the bases that were served lately and have no live worker now. */
  absentBases(): string[] {
    const live = new Set(this.snapshot().flatMap((w) => w.bases.map((b) => b.id)));
    const oldest = Date.now() - EXPECTED_MS;
    for (const [id, at] of this.#bases) if (at < oldest) this.#bases.delete(id);
    return [...this.#bases.keys()].filter((id) => !live.has(id));
  }

  /** Live workers by name: a stack numbers its workers in the order of its bases, and /v1/models lists them so. */
  snapshot(): LiveWorker[] {
    const oldest = Date.now() - LIVE_MS;
    for (const [id, w] of this.#workers) if (w.seenAt < oldest) this.#workers.delete(id);
    return [...this.#workers.values()].sort((a, b) => a.worker.localeCompare(b.worker, 'en', { numeric: true }));
  }
}
