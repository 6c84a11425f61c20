/**
 * Who runs next, and who gives way. Pure policy: time is an argument, and nothing here knows what a sequence computes.
 *
 * - Interactive work goes before batch work. Batch work takes what is left; when it had no row for a while it gets one,
 *   and keeps it to the end.
 * - Among tenants the one that was served least is next (tenants.ts), among one tenant's sequences the first to come.
 * - Rows are taken back: from batch work when interactive work waits, and from a tenant with several rows when another
 *   has waited without any. What gives way resumes later exactly where it was.
 */
import type { Priority } from '../../shared/contract/engine.ts';
import { Tenants } from './tenants.ts';

/** How long batch work goes without a row before it is given one. */
export const BATCH_PATIENCE_MS = 10_000;
/** How long a tenant goes without a row while another has several. */
export const TENANT_PATIENCE_MS = 1_000;

export interface Schedulable {
  readonly tenant: string;
  readonly weight: number;
  readonly priority: Priority;
  /** Milliseconds of the scheduler's clock. */
  readonly arrived: number;
}

export class Scheduler<T extends Schedulable> {
  readonly tenants = new Tenants();
  /** First come first; sequences that gave way stand before those that never ran. */
  readonly #waiting: Record<Priority, Map<string, T[]>> = { interactive: new Map(), batch: new Map() };
  readonly #running = new Set<T>();
  /** The batch sequence that was admitted because its kind had waited too long. */
  #overdue: T | null = null;
  /** When batch work last got, or gave back, a row. */
  #batchServed = 0;

  /** In order of admission. */
  get running(): ReadonlySet<T> {
    return this.#running;
  }

  waiting(priority: Priority): number {
    let count = 0;
    for (const queue of this.#waiting[priority].values()) count += queue.length;
    return count;
  }

  *allWaiting(): Iterable<T> {
    for (const queues of Object.values(this.#waiting)) for (const queue of queues.values()) yield* queue;
  }

  add(item: T): void {
    this.tenants.enter(item.tenant, item.weight);
    this.#queue(item).push(item);
  }

  /**
   * The sequence to admit next: the first of its tenant that is `ready`. Null: none is. The caller starts it, or waits
   * until it can; a later one never slips past it.
   */
  next(now: number, ready: (item: T) => boolean): T | null {
    if (this.#batchIsOverdue(now)) {
      const batch = this.#first('batch', ready);
      if (batch) return batch;
    }
    return this.#first('interactive', ready) ?? this.#first('batch', ready);
  }

  #batchIsOverdue(now: number): boolean {
    for (const { priority } of this.#running) if (priority === 'batch') return false;
    let oldest = Number.POSITIVE_INFINITY;
    for (const [first] of this.#waiting.batch.values()) oldest = Math.min(oldest, first!.arrived);
    return now - Math.max(oldest, this.#batchServed) > BATCH_PATIENCE_MS;
  }

  #first(priority: Priority, ready: (item: T) => boolean): T | null {
    const names = [...this.#waiting[priority].keys()].sort((a, b) => this.tenants.served(a) - this.tenants.served(b));
    for (const name of names) {
      const item = this.#waiting[priority].get(name)!.find(ready);
      if (item) return item;
    }
    return null;
  }

  start(item: T, now: number): void {
    if (item.priority === 'batch') {
      if (this.#batchIsOverdue(now)) this.#overdue = item;
      this.#batchServed = now;
    }
    this.#remove(item);
    this.#running.add(item);
  }

  /** A running sequence gives way: it is the next of its tenant. */
  yield(item: T, now: number): void {
    this.#stop(item, now);
    this.#queue(item).unshift(item);
  }

  /** A sequence has ended, running or waiting. */
  end(item: T, now: number): void {
    if (this.#running.has(item)) this.#stop(item, now);
    else this.#remove(item);
    this.tenants.leave(item.tenant);
  }

  #stop(item: T, now: number): void {
    this.#running.delete(item);
    if (item.priority === 'batch') this.#batchServed = now;
    if (item === this.#overdue) this.#overdue = null;
  }

  /** The running sequence that `next`, for which there is no room, may take the place of; null: it waits. */
  replaceable(next: T, now: number): T | null {
    if (next.priority === 'interactive') {
      const batch = this.#leastRight((item) => item.priority === 'batch' && item !== this.#overdue);
      if (batch) return batch;
    }
    if (now - next.arrived < TENANT_PATIENCE_MS) return null;
    const rows = new Map<string, number>();
    for (const { tenant } of this.#running) rows.set(tenant, (rows.get(tenant) ?? 0) + 1);
    if (rows.has(next.tenant)) return null;
    const { tenants } = this;
    return this.#leastRight(
      (item) =>
        item.priority === next.priority &&
        item !== this.#overdue &&
        rows.get(item.tenant)! > 1 &&
        tenants.served(item.tenant) > tenants.served(next.tenant),
    );
  }

  /** Who gives way when memory runs out: the sequence with the least right to run. */
  victim(): T {
    const item = this.#leastRight(() => true);
    if (!item) throw new Error('nothing runs that could give way');
    return item;
  }

  /** Batch before interactive, then of the tenant that was served most, then the last admitted. */
  #leastRight(eligible: (item: T) => boolean): T | null {
    let least: T | null = null;
    for (const item of this.#running) {
      if (!eligible(item)) continue;
      if (!least || this.#compareRight(item, least) <= 0) least = item;
    }
    return least;
  }

  /** Negative or 0: `item`, admitted later, has no more right than `other`. */
  #compareRight(item: T, other: T): number {
    if (item.priority !== other.priority) return item.priority === 'batch' ? -1 : 1;
    return this.tenants.served(other.tenant) - this.tenants.served(item.tenant);
  }

  #queue(item: T): T[] {
    const queues = this.#waiting[item.priority];
    const queue = queues.get(item.tenant) ?? [];
    queues.set(item.tenant, queue);
    return queue;
  }

  #remove(item: T): void {
    const queue = this.#queue(item);
    queue.splice(queue.indexOf(item), 1);
    if (queue.length === 0) this.#waiting[item.priority].delete(item.tenant);
  }
}
