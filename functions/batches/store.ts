/**
 * One tenant's batches in the SQLite of their object. A batch's document is what its client sees; beside it
 * are its lines, by number, and the answers until they are written into files.
 *
 *   line   waiting → running → done
 *
 * A waiting line that has a request id was sent under it, and nobody knows yet what became of it. Each id that was
 * ever sent gets one verdict, for the ledger: the one whose answer is kept is paid.
 */
import type { Batch, BatchAnswer, BatchEndpoint, BatchError, BatchStatus } from '../../shared/contract/batches.ts';
import type { PageQuery } from '../../shared/contract/files.ts';
import type { ResponseUsage } from '../../shared/contract/responses.ts';
import { newRequestId } from '../../shared/ids.ts';
import type { Verdict } from '../billing/ledger.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, document TEXT NOT NULL, job TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS batches_open ON batches (seq) WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');
  CREATE TABLE IF NOT EXISTS lines (
    batch TEXT NOT NULL, line INTEGER NOT NULL, custom_id TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, not_before INTEGER NOT NULL, request_id TEXT, PRIMARY KEY (batch, line)
  ) WITHOUT ROWID;
  CREATE UNIQUE INDEX IF NOT EXISTS lines_custom ON lines (batch, custom_id);
  CREATE INDEX IF NOT EXISTS lines_open ON lines (batch, line) WHERE state <> 'done';
  CREATE TABLE IF NOT EXISTS answers (
    batch TEXT NOT NULL, line INTEGER NOT NULL, part INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (batch, line, part)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS verdicts (request_id TEXT PRIMARY KEY, is_paid INTEGER NOT NULL) WITHOUT ROWID;
`;

/** A value in an object's SQLite has at most 2 MB; a UTF-16 unit has up to 3 bytes. */
const PART_UNITS = 500_000;

const OPEN = "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')";

/** What a batch needs to run, beside its document. */
export interface Job {
  tenant: string;
  keyId: string;
  outputLifetimeSeconds: number | null;
  /** Ids of the files with answers, fixed before they are written. */
  files: { output: string; error: string };
  /** Why it ends, once it does; expired and cancelled batches leave lines undone. */
  ending: 'completed' | 'expired' | 'cancelled' | null;
}

export interface StoredBatch {
  document: Batch;
  job: Job;
}

export interface NewLine {
  number: number;
  customId: string;
  offset: number;
  length: number;
}

export interface DueLine extends NewLine {
  batch: string;
  endpoint: BatchEndpoint;
  attempts: number;
  /** The id under which it was sent before. */
  sentAs: string | null;
}

interface Row extends Record<string, SqlStorageValue> {
  document: string;
  job: string;
}

interface LineRow extends Record<string, SqlStorageValue> {
  number: number;
  customId: string;
  offset: number;
  length: number;
  attempts: number;
  sentAs: string | null;
}

const parse = ({ document, job }: Row): StoredBatch => ({ document: JSON.parse(document) as Batch, job: JSON.parse(job) as Job });

export class BatchStore {
  readonly #sql: SqlStorage;
  readonly #atomically: <T>(work: () => T) => T;

  constructor(storage: DurableObjectStorage) {
    this.#sql = storage.sql;
    this.#atomically = (work) => storage.transactionSync(work);
    this.#sql.exec(SCHEMA);
    // This object runs nothing yet: what is marked as running died with the process that ran it.
    this.#sql.exec("UPDATE lines SET state = 'waiting' WHERE state = 'running'");
  }

  add({ document, job }: StoredBatch): void {
    const { id, status } = document;
    this.#sql.exec(
      'INSERT INTO batches (id, status, document, job) VALUES (?, ?, ?, ?)',
      id,
      status,
      JSON.stringify(document),
      JSON.stringify(job),
    );
  }

  get(id: string): StoredBatch | null {
    const [row] = this.#sql.exec<Row>('SELECT document, job FROM batches WHERE id = ?', id);
    return row ? parse(row) : null;
  }

  /** Newest first, one more than asked for if there are more; null when there is no batch `after`. */
  list({ after, limit }: PageQuery): Batch[] | null {
    const [start] =
      after === undefined
        ? [{ seq: Number.MAX_SAFE_INTEGER }]
        : this.#sql.exec<{ seq: number }>('SELECT seq FROM batches WHERE id = ?', after);
    if (!start) return null;
    const rows = this.#sql.exec<Row>('SELECT document, job FROM batches WHERE seq < ? ORDER BY seq DESC LIMIT ?', start.seq, limit + 1);
    return rows.toArray().map((row) => parse(row).document);
  }

  /** Those that are not over, oldest first. */
  open(): StoredBatch[] {
    return this.#sql.exec<Row>(`SELECT document, job FROM batches WHERE ${OPEN} ORDER BY seq`).toArray().map(parse);
  }

  /** Whose batches these are; there is one at least. */
  tenant(): string {
    const { job } = this.#sql.exec<{ job: string }>('SELECT job FROM batches LIMIT 1').one();
    return (JSON.parse(job) as Job).tenant;
  }

  countOpen(): number {
    return this.#sql.exec<{ n: number }>(`SELECT count(*) n FROM batches WHERE ${OPEN}`).one().n;
  }

  update({ document, job }: StoredBatch): void {
    const { id, status } = document;
    this.#sql.exec(
      'UPDATE batches SET status = ?, document = ?, job = ? WHERE id = ?',
      status,
      JSON.stringify(document),
      JSON.stringify(job),
      id,
    );
  }

  /** Notes that a batch has passed into `status`. */
  enter(id: string, status: BatchStatus, changes: Partial<Batch> = {}, ending?: Job['ending']): void {
    const batch = this.get(id)!;
    const at = Math.floor(Date.now() / 1000);
    const document: Batch = { ...batch.document, ...changes, status, [`${status}_at`]: at };
    this.update({ document, job: ending === undefined ? batch.job : { ...batch.job, ending } });
  }

  /** Forgets the lines of an earlier reading that was cut short. */
  clearLines(batch: string): void {
    this.#sql.exec('DELETE FROM lines WHERE batch = ?', batch);
  }

  /** The numbers of those whose custom_id the batch has already. */
  addLines(batch: string, lines: readonly NewLine[]): number[] {
    return this.#atomically(() =>
      lines
        .filter(({ number, customId, offset, length }) => {
          const added = this.#sql.exec(
            "INSERT INTO lines VALUES (?, ?, ?, ?, ?, 'waiting', 0, 0, NULL) ON CONFLICT DO NOTHING RETURNING 1",
            batch,
            number,
            customId,
            offset,
            length,
          );
          return added.toArray().length === 0;
        })
        .map(({ number }) => number),
    );
  }

  /** Marks up to `most` lines that are due as running, oldest batch first. */
  begin(most: number, now: number): DueLine[] {
    return this.#atomically(() => {
      const due: DueLine[] = [];
      for (const { document } of this.open()) {
        if (document.status !== 'in_progress' || due.length >= most) continue;
        const rows = this.#sql.exec<LineRow>(
          "SELECT line number, custom_id customId, offset, length, attempts, request_id sentAs FROM lines WHERE batch = ? AND state = 'waiting' AND not_before <= ? ORDER BY line LIMIT ?",
          document.id,
          now,
          most - due.length,
        );
        due.push(...rows.toArray().map((row) => ({ ...row, batch: document.id, endpoint: document.endpoint })));
      }
      for (const { batch, number } of due) this.#sql.exec("UPDATE lines SET state = 'running' WHERE batch = ? AND line = ?", batch, number);
      return due;
    });
  }

  /** The id under which the line is sent now; it is on disk before anything leaves (the object's output gate). */
  assignRequestId(batch: string, line: number): string {
    const id = newRequestId();
    this.#atomically(() => {
      this.#dropRequestId(batch, line, false);
      this.#sql.exec('UPDATE lines SET request_id = ? WHERE batch = ? AND line = ?', id, batch, line);
    });
    return id;
  }

  /** The line waits again, for another id. `isPaid`: what was generated under this one was not lost, but called off. */
  putBack(batch: string, line: number, isPaid: boolean): void {
    this.#atomically(() => {
      this.#dropRequestId(batch, line, isPaid);
      this.#sql.exec("UPDATE lines SET state = 'waiting' WHERE batch = ? AND line = ?", batch, line);
    });
  }

  /** A worker broke on the line, or the way to it: it waits again, and longer each time. */
  retry(batch: string, line: number, notBefore: number, isLost: boolean): void {
    this.#atomically(() => {
      if (!isLost) this.#dropRequestId(batch, line, false);
      this.#sql.exec(
        "UPDATE lines SET state = 'waiting', attempts = attempts + 1, not_before = ? WHERE batch = ? AND line = ?",
        notBefore,
        batch,
        line,
      );
    });
  }

  /** Keeps a line's answer and counts it. */
  finish(batch: string, line: number, answer: BatchAnswer, usage: ResponseUsage | null, isPaid: boolean): void {
    this.#atomically(() => {
      for (const [part, text] of partsOf(JSON.stringify(answer)).entries())
        this.#sql.exec('INSERT INTO answers VALUES (?, ?, ?, ?)', batch, line, part, text);
      this.#dropRequestId(batch, line, isPaid);
      this.#sql.exec("UPDATE lines SET state = 'done' WHERE batch = ? AND line = ?", batch, line);
      const stored = this.get(batch)!;
      const { request_counts: counts, usage: sum } = stored.document;
      const which = isAnswered(answer) ? 'completed' : 'failed';
      stored.document.request_counts = { ...counts, [which]: counts[which] + 1 };
      if (usage) stored.document.usage = plus(sum, usage);
      this.update(stored);
    });
  }

  #dropRequestId(batch: string, line: number, isPaid: boolean): void {
    this.#sql.exec(
      'INSERT OR IGNORE INTO verdicts SELECT request_id, ?1 FROM lines WHERE batch = ?2 AND line = ?3 AND request_id IS NOT NULL',
      isPaid ? 1 : 0,
      batch,
      line,
    );
    this.#sql.exec('UPDATE lines SET request_id = NULL WHERE batch = ? AND line = ?', batch, line);
  }

  /** Of a batch that is over: whatever was under way was called off, and is paid as far as it came. */
  judgeRest(batch: string): void {
    this.#atomically(() => {
      this.#sql.exec('INSERT OR IGNORE INTO verdicts SELECT request_id, 1 FROM lines WHERE batch = ? AND request_id IS NOT NULL', batch);
      this.#sql.exec('UPDATE lines SET request_id = NULL WHERE batch = ? AND request_id IS NOT NULL', batch);
    });
  }

  /** Some that the ledger has not been told. */
  verdicts(limit: number): Verdict[] {
    const rows = this.#sql.exec<{ request_id: string; is_paid: number }>('SELECT request_id, is_paid FROM verdicts LIMIT ?', limit);
    return rows.toArray().map((row) => ({ requestId: row.request_id, isPaid: row.is_paid === 1 }));
  }

  dropVerdicts(told: readonly Verdict[]): void {
    for (const { requestId } of told) this.#sql.exec('DELETE FROM verdicts WHERE request_id = ?', requestId);
  }

  hasOpenLines(batch: string): boolean {
    return this.#sql.exec("SELECT 1 FROM lines WHERE batch = ? AND state <> 'done' LIMIT 1", batch).toArray().length > 0;
  }

  /** Some lines after the line `after` that were not done. */
  undone(batch: string, after: number, limit: number): { number: number; customId: string }[] {
    return this.#sql
      .exec<{ number: number; customId: string }>(
        "SELECT line number, custom_id customId FROM lines WHERE batch = ? AND line > ? AND state <> 'done' ORDER BY line LIMIT ?",
        batch,
        after,
        limit,
      )
      .toArray();
  }

  /** The first answer after the line `after`, as it was stored; null at the end. */
  answerAfter(batch: string, after: number): { line: number; text: string } | null {
    const [next] = this.#sql.exec<{ line: number | null }>('SELECT min(line) line FROM answers WHERE batch = ? AND line > ?', batch, after);
    if (next?.line == null) return null;
    const parts = this.#sql.exec<{ text: string }>('SELECT text FROM answers WHERE batch = ? AND line = ? ORDER BY part', batch, next.line);
    return {
      line: next.line,
      text: parts
        .toArray()
        .map(({ text }) => text)
        .join(''),
    };
  }

  /** A batch is over: only its document stays. */
  close(batch: string, status: BatchStatus, changes: Partial<Batch>): void {
    this.#atomically(() => {
      this.enter(batch, status, changes);
      this.#sql.exec('DELETE FROM lines WHERE batch = ?', batch);
      this.#sql.exec('DELETE FROM answers WHERE batch = ?', batch);
    });
  }

  fail(batch: string, errors: BatchError[]): void {
    this.close(batch, 'failed', { errors: { object: 'list', data: errors } });
  }
}

/** Never cut inside a pair of surrogates: half a pair is no text that SQLite keeps. */
function partsOf(text: string): string[] {
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = Math.min(at + PART_UNITS, text.length);
    const cut = /[\ud800-\udbff]/.test(text[end - 1]!) && end < text.length ? end - 1 : end;
    parts.push(text.slice(at, cut));
    at = cut;
  }
  return parts;
}

/** Belongs into the output file rather than the error file. */
export const isAnswered = (answer: BatchAnswer): boolean => answer.response?.status_code === 200;

function plus(a: ResponseUsage, b: ResponseUsage): ResponseUsage {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    input_tokens_details: { cached_tokens: a.input_tokens_details.cached_tokens + b.input_tokens_details.cached_tokens },
    output_tokens: a.output_tokens + b.output_tokens,
    output_tokens_details: { reasoning_tokens: a.output_tokens_details.reasoning_tokens + b.output_tokens_details.reasoning_tokens },
    total_tokens: a.total_tokens + b.total_tokens,
  };
}
