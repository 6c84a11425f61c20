/**
 * The ledger's export outbox. Settled records are cut into batches of one day; a batch keeps its id and
 * content until the consumer acknowledges it. What goes through the queue is only a doorbell that names
 * the batch, rung again until then, since a queue may lose what it was given.
 */
import type { UsageDoorbell } from './export.ts';

const BATCH_RECORDS = 500;
const DELAY_MS = 500;
const RESEND_MS = 10_000;

export interface ExportBatch {
  day: string;
  /** One UsageRecord with its cost, as JSON, for each line. */
  lines: string[];
}

export class Export {
  readonly delayMs = DELAY_MS;
  readonly #sql: SqlStorage;
  readonly #queue: Queue<UsageDoorbell>;

  constructor(sql: SqlStorage, queue: Queue<UsageDoorbell>) {
    this.#sql = sql;
    this.#queue = queue;
  }

  /** Rings for every batch that is due; returns when to be called again, null when nothing is left to acknowledge. */
  async send(tenant: string, now: number, atomically: (work: () => void) => void): Promise<number | null> {
    atomically(() => this.#cut());
    const due = this.#sql.exec<{ id: string }>('SELECT id FROM batches WHERE sent_at <= ? LIMIT 100', now - RESEND_MS).toArray();
    if (due.length > 0) {
      await this.#queue.sendBatch(due.map(({ id }) => ({ body: { tenant, batch: id } })));
      for (const { id } of due) this.#sql.exec('UPDATE batches SET sent_at = ? WHERE id = ?', now, id);
    }
    const [next] = this.#sql.exec<{ at: number | null }>('SELECT min(sent_at) at FROM batches');
    return next?.at == null ? null : next.at + RESEND_MS;
  }

  read(id: string): ExportBatch | null {
    const [batch] = this.#sql.exec<{ day: string }>('SELECT day FROM batches WHERE id = ?', id).toArray();
    if (!batch) return null;
    const rows = this.#sql.exec<{ record: string; cost_nano: number }>(
      'SELECT record, cost_nano FROM usage WHERE batch = ? ORDER BY finished_at, request_id',
      id,
    );
    return { day: batch.day, lines: rows.toArray().map((r) => JSON.stringify({ ...JSON.parse(r.record), cost_nano: r.cost_nano })) };
  }

  acknowledge(id: string): void {
    this.#sql.exec('DELETE FROM batches WHERE id = ?', id);
  }

  /** Puts every record that is in no batch yet into one of its day. */
  #cut(): void {
    for (;;) {
      const [first] = this.#sql
        .exec<{ day: string; id: string }>('SELECT day, min(request_id) id FROM usage WHERE batch IS NULL GROUP BY day LIMIT 1')
        .toArray();
      if (!first) return;
      this.#sql.exec(
        'UPDATE usage SET batch = ?1 WHERE request_id IN (SELECT request_id FROM usage WHERE batch IS NULL AND day = ?2 ORDER BY request_id LIMIT ?3)',
        first.id,
        first.day,
        BATCH_RECORDS,
      );
      this.#sql.exec('INSERT INTO batches VALUES (?, ?, 0)', first.id, first.day);
    }
  }
}
