/**
 * Idempotency keys of one tenant: a key belongs to one request body for 24 hours. While its request runs
 * nobody else may start; once it is done its stored answer is replayed.
 */
const KEEP_MS = 24 * 3_600_000;
/** A request that never ended (the edge was killed) gives its key free after this. */
const RUN_MS = 10 * 60_000;

/** As many as R2 deletes in one call. */
const MAX_EXPIRED = 1000;

export interface StoredAnswer {
  requestId: string;
  contentType: string;
  /** Of the body, in the bucket. */
  object: string;
}

export type Claim = { state: 'new' } | { state: 'running' } | { state: 'other-body' } | { state: 'done'; answer: StoredAnswer };

export const IDEMPOTENCY_SCHEMA = `
  CREATE TABLE IF NOT EXISTS idempotency (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, request_id TEXT NOT NULL, content_type TEXT, object TEXT, expires_at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS idempotency_expiry ON idempotency (expires_at);
`;

interface Row extends Record<string, SqlStorageValue> {
  fingerprint: string;
  request_id: string;
  content_type: string | null;
  object: string | null;
}

export class Idempotency {
  readonly runMs = RUN_MS;
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  claim(key: string, fingerprint: string, requestId: string, now: number): Claim {
    const [row] = this.#sql
      .exec<Row>('SELECT fingerprint, request_id, content_type, object FROM idempotency WHERE key = ? AND expires_at > ?', key, now)
      .toArray();
    if (!row) {
      this.#sql.exec('INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, NULL, NULL, ?)', key, fingerprint, requestId, now + RUN_MS);
      return { state: 'new' };
    }
    if (row.fingerprint !== fingerprint) return { state: 'other-body' };
    if (row.object === null || row.content_type === null) return { state: 'running' };
    return { state: 'done', answer: { requestId: row.request_id, contentType: row.content_type, object: row.object } };
  }

  finish(key: string, answer: StoredAnswer, now: number): void {
    this.#sql.exec(
      'UPDATE idempotency SET content_type = ?, object = ?, expires_at = ? WHERE key = ? AND request_id = ?',
      answer.contentType,
      answer.object,
      now + KEEP_MS,
      key,
      answer.requestId,
    );
  }

  /** The request failed before it generated anything worth keeping: the key may be used again. */
  forget(key: string, requestId: string): void {
    this.#sql.exec('DELETE FROM idempotency WHERE key = ? AND request_id = ? AND object IS NULL', key, requestId);
  }

  /** Drops what has expired; returns the bodies to delete, and when to be called again. */
  expire(now: number): { objects: string[]; next: number | null } {
    const rows = this.#sql
      .exec<{ object: string | null }>(
        `DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires_at <= ? LIMIT ${MAX_EXPIRED}) RETURNING object`,
        now,
      )
      .toArray();
    const [next] = this.#sql.exec<{ at: number | null }>('SELECT min(expires_at) at FROM idempotency').toArray();
    return { objects: rows.flatMap((r) => r.object ?? []), next: next?.at ?? null };
  }
}
