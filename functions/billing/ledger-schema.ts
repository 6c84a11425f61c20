/**
 * Tables of one tenant's Ledger object. Postings are double entry: those of one request sum to zero.
 *
 *   grant    grants −X            balance +X
 *   settle   balance −Σ amounts   revenue:<unit> +amount for each charge
 *
 * Holds are pending, not posted: what may be spent is balance − Σ holds. A postpaid tenant's balance
 * goes below zero, which is what it owes.
 *
 * A batch sends a request again, under another id, when it was lost: which id is paid is the batch's verdict.
 * Usage waits for it in `pending`, a verdict that is early waits in `verdicts`.
 */
export const LEDGER_SCHEMA = `
  CREATE TABLE IF NOT EXISTS account (
    id INTEGER PRIMARY KEY CHECK (id = 1), tenant TEXT NOT NULL, credit_nano INTEGER, budget_nano INTEGER
  );
  CREATE TABLE IF NOT EXISTS holds (
    request_id TEXT PRIMARY KEY, amount_nano INTEGER NOT NULL, tokens INTEGER NOT NULL, expires_at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS holds_expiry ON holds (expires_at);
  CREATE TABLE IF NOT EXISTS usage (
    request_id TEXT PRIMARY KEY, finished_at INTEGER NOT NULL, day TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL,
    lane TEXT NOT NULL, adapter_count INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cost_nano INTEGER NOT NULL, record TEXT NOT NULL, batch TEXT
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS usage_day ON usage (day);
  CREATE INDEX IF NOT EXISTS usage_outbox ON usage (day) WHERE batch IS NULL;
  CREATE INDEX IF NOT EXISTS usage_batch ON usage (batch);
  CREATE TABLE IF NOT EXISTS charges (
    request_id TEXT NOT NULL, unit TEXT NOT NULL, quantity INTEGER NOT NULL, price_nano INTEGER NOT NULL, PRIMARY KEY (request_id, unit)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS postings (
    entry TEXT NOT NULL, account TEXT NOT NULL, amount_nano INTEGER NOT NULL, PRIMARY KEY (entry, account)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS balances (account TEXT PRIMARY KEY, amount_nano INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS months (month TEXT PRIMARY KEY, spent_nano INTEGER NOT NULL, tokens INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pending (request_id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS verdicts (request_id TEXT PRIMARY KEY, is_paid INTEGER NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS verdicts_expiry ON verdicts (expires_at);
  CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, day TEXT NOT NULL, sent_at INTEGER NOT NULL
  ) WITHOUT ROWID;
`;
