/**
 * The Ledger object: one for each tenant, the only writer of its money. Reserve before a request runs,
 * settle after it, exactly once for each request id. Every method runs in one synchronous SQLite
 * transaction; answers leave once it is on disk (the object's output gate).
 */
import { DurableObject } from 'cloudflare:workers';
import { amountOf, chargesOf } from '../../shared/billing/amounts.ts';
import { priceOf } from '../../shared/billing/prices.ts';
import type { GroupBy, Invoice, UsageList } from '../../shared/contract/billing.ts';
import type { UsageRecord } from '../../shared/contract/worker.ts';
import type { Env } from '../env.ts';
import { Export, type ExportBatch } from './ledger-export.ts';
import { type Claim, IDEMPOTENCY_SCHEMA, Idempotency, type StoredAnswer } from './ledger-idempotency.ts';
import { invoice, usage } from './ledger-reports.ts';
import { LEDGER_SCHEMA } from './ledger-schema.ts';

/** A hold outlives any request; one that is never settled or released lapses then. */
const HOLD_MS = 30 * 60_000;
/** A worker that is away for longer than this reports usage of batches unpaid. */
const VERDICT_MS = 7 * 24 * 3_600_000;

export interface Limits {
  creditNano: number | null;
  budgetNano: number | null;
}

export interface Hold {
  requestId: string;
  amountNano: number;
  tokens: number;
}

/** Of a batch, about a request that it has sent: whether its client pays for it. */
export interface Verdict {
  requestId: string;
  isPaid: boolean;
}

export type Reservation = { ok: true } | { ok: false; limit: 'credit' | 'budget'; leftNano: number };

export class Ledger extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  readonly #export: Export;
  readonly #idempotency: Idempotency;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(LEDGER_SCHEMA + IDEMPOTENCY_SCHEMA);
    this.#idempotency = new Idempotency(this.#sql);
    this.#export = new Export(this.#sql, env.USAGE_QUEUE);
  }

  /** Opens the account; granting the same tenant's credit twice changes nothing. */
  open(tenant: string, limits: Limits): void {
    this.ctx.storage.transactionSync(() => {
      const opened = this.#sql.exec(
        'INSERT INTO account VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1',
        tenant,
        limits.creditNano,
        limits.budgetNano,
      );
      if (opened.toArray().length > 0 && limits.creditNano) this.#post('grant', { grants: -limits.creditNano, balance: limits.creditNano });
    });
  }

  /** Holds the most a request can cost, or says which limit is in the way. Asking again for the same request changes nothing. */
  async reserve(tenant: string, hold: Hold): Promise<Reservation> {
    const now = Date.now();
    const outcome = this.ctx.storage.transactionSync((): Reservation => {
      this.#sql.exec('INSERT INTO account VALUES (1, ?, NULL, NULL) ON CONFLICT DO NOTHING', tenant);
      const short = this.#shortfall(hold.amountNano, now);
      if (short) return short;
      // A hold that is written beside a short request may arrive after its usage, and nothing would lift it.
      this.#sql.exec(
        `INSERT INTO holds SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM usage WHERE request_id = ?1) ON CONFLICT DO NOTHING`,
        hold.requestId,
        hold.amountNano,
        hold.tokens,
        now + HOLD_MS,
      );
      return { ok: true };
    });
    if (outcome.ok) await this.#wakeBy(now + HOLD_MS);
    return outcome;
  }

  /** The request never reached an engine: gives its hold back. */
  release(requestId: string): void {
    this.#sql.exec('DELETE FROM holds WHERE request_id = ?', requestId);
  }

  /** Bills finished requests. A record settled before, or without a hold, is no error: the engine's count decides. */
  async settle(tenant: string, records: UsageRecord[]): Promise<void> {
    this.ctx.storage.transactionSync(() => {
      this.#sql.exec('INSERT INTO account VALUES (1, ?, NULL, NULL) ON CONFLICT DO NOTHING', tenant);
      for (const record of records) {
        if (record.from_batch) this.#settleJudged(record);
        else this.#settleOne(record, true);
      }
    });
    await this.#wakeBy(Date.now() + this.#export.delayMs);
  }

  /** Settles what waited for a batch's word. Saying the same again changes nothing. */
  async judge(verdicts: readonly Verdict[]): Promise<void> {
    this.ctx.storage.transactionSync(() => {
      for (const verdict of verdicts) this.#judgeOne(verdict);
    });
    await this.#wakeBy(Date.now() + this.#export.delayMs);
  }

  usage(from: number, to: number, by: GroupBy): UsageList {
    return usage(this.#sql, from, to, by);
  }

  invoice(month: string): Invoice {
    return invoice(this.#sql, month);
  }

  /** Tokens billed so far, and tokens held for requests under way. */
  totals(): { settled: number; reserved: number } {
    const [settled] = this.#sql.exec<{ n: number }>('SELECT coalesce(sum(tokens), 0) n FROM months');
    const [reserved] = this.#sql.exec<{ n: number }>('SELECT coalesce(sum(tokens), 0) n FROM holds');
    return { settled: settled!.n, reserved: reserved!.n };
  }

  /** Takes an idempotency key for a request, or says what became of the one that has it. */
  async claim(key: string, fingerprint: string, requestId: string): Promise<Claim> {
    const now = Date.now();
    const claim = this.ctx.storage.transactionSync(() => this.#idempotency.claim(key, fingerprint, requestId, now));
    if (claim.state === 'new') await this.#wakeBy(now + this.#idempotency.runMs);
    return claim;
  }

  finish(key: string, answer: StoredAnswer): void {
    this.#idempotency.finish(key, answer, Date.now());
  }

  forget(key: string, requestId: string): void {
    this.#idempotency.forget(key, requestId);
  }

  exportBatch(id: string): ExportBatch | null {
    return this.#export.read(id);
  }

  acknowledge(id: string): void {
    this.ctx.storage.transactionSync(() => this.#export.acknowledge(id));
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    this.#sql.exec('DELETE FROM holds WHERE expires_at <= ?', now);
    this.#sql.exec('DELETE FROM verdicts WHERE expires_at <= ?', now);
    const [account] = this.#sql.exec<{ tenant: string }>('SELECT tenant FROM account').toArray();
    const nextExport = account ? await this.#export.send(account.tenant, now, (work) => this.ctx.storage.transactionSync(work)) : null;
    const [hold] = this.#sql.exec<{ at: number | null }>('SELECT min(expires_at) at FROM holds');
    const answers = this.#idempotency.expire(now);
    if (answers.objects.length > 0) await this.env.BUCKET.delete(answers.objects);
    const next = Math.min(nextExport ?? Infinity, hold?.at ?? Infinity, answers.next ?? Infinity);
    if (next !== Infinity) await this.ctx.storage.setAlarm(next);
  }

  #shortfall(amountNano: number, now: number): Extract<Reservation, { ok: false }> | null {
    const [limits] = this.#sql.exec<{ credit_nano: number | null; budget_nano: number | null }>(
      'SELECT credit_nano, budget_nano FROM account',
    );
    if (!limits || (limits.credit_nano === null && limits.budget_nano === null)) return null;
    const [held] = this.#sql.exec<{ n: number }>('SELECT coalesce(sum(amount_nano), 0) n FROM holds');
    if (limits.credit_nano !== null) {
      const [balance] = this.#sql.exec<{ n: number }>("SELECT coalesce(sum(amount_nano), 0) n FROM balances WHERE account = 'balance'");
      const leftNano = balance!.n - held!.n;
      if (leftNano < amountNano || leftNano <= 0) return { ok: false, limit: 'credit', leftNano: Math.max(0, leftNano) };
    }
    if (limits.budget_nano !== null) {
      const [spent] = this.#sql.exec<{ n: number }>('SELECT coalesce(sum(spent_nano), 0) n FROM months WHERE month = ?', monthOf(now));
      const leftNano = limits.budget_nano - spent!.n - held!.n;
      if (leftNano < amountNano || leftNano <= 0) return { ok: false, limit: 'budget', leftNano: Math.max(0, leftNano) };
    }
    return null;
  }

  #settleJudged(record: UsageRecord): void {
    const { request_id: id } = record;
    const [verdict] = this.#sql.exec<{ is_paid: number }>('DELETE FROM verdicts WHERE request_id = ? RETURNING is_paid', id);
    if (verdict) {
      this.#settleOne(record, verdict.is_paid === 1);
      return;
    }
    this.release(id);
    this.#sql.exec(
      'INSERT INTO pending SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM usage WHERE request_id = ?1) ON CONFLICT DO NOTHING',
      id,
      JSON.stringify(record),
    );
  }

  #judgeOne({ requestId, isPaid }: Verdict): void {
    // Its worker may never tell what it used.
    if (!isPaid) this.release(requestId);
    const [pending] = this.#sql.exec<{ record: string }>('DELETE FROM pending WHERE request_id = ? RETURNING record', requestId);
    if (pending) this.#settleOne(JSON.parse(pending.record) as UsageRecord, isPaid);
    else {
      this.#sql.exec(
        `INSERT INTO verdicts SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM usage WHERE request_id = ?1) ON CONFLICT DO NOTHING`,
        requestId,
        isPaid ? 1 : 0,
        Date.now() + VERDICT_MS,
      );
    }
  }

  #settleOne(record: UsageRecord, isPaid: boolean): void {
    this.release(record.request_id);
    const charges = isPaid ? chargesOf(record, priceOf(record.base, record.priority)) : [];
    const cost = amountOf(charges);
    const day = new Date(record.finished_at).toISOString().slice(0, 10);
    const lane = record.adapters.length === 0 ? record.base_revision : record.adapters.map((a) => a.digest).join('+');
    const settled = this.#sql.exec(
      'INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING RETURNING 1',
      record.request_id,
      record.finished_at,
      day,
      record.key_id,
      record.model,
      lane,
      record.adapters.length,
      record.prompt_tokens,
      record.cached_tokens,
      record.completion_tokens,
      cost,
      JSON.stringify(record),
    );
    if (settled.toArray().length === 0) return;
    const entry: Record<string, number> = { balance: -cost };
    for (const { unit, quantity, priceNano } of charges) {
      this.#sql.exec('INSERT INTO charges VALUES (?, ?, ?, ?)', record.request_id, unit, quantity, priceNano);
      entry[`revenue:${unit}`] = quantity * priceNano;
    }
    if (cost > 0) this.#post(record.request_id, entry);
    this.#sql.exec(
      `INSERT INTO months VALUES (?, ?, ?) ON CONFLICT (month) DO UPDATE SET
         spent_nano = spent_nano + excluded.spent_nano, tokens = tokens + excluded.tokens`,
      monthOf(record.finished_at),
      cost,
      record.prompt_tokens + record.completion_tokens,
    );
  }

  /** Writes one balanced entry. */
  #post(entry: string, amounts: Record<string, number>): void {
    for (const [account, amount] of Object.entries(amounts)) {
      this.#sql.exec('INSERT INTO postings VALUES (?, ?, ?)', entry, account, amount);
      this.#sql.exec(
        'INSERT INTO balances VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET amount_nano = amount_nano + excluded.amount_nano',
        account,
        amount,
      );
    }
  }

  /** Makes sure the alarm rings no later than `at`. */
  async #wakeBy(at: number): Promise<void> {
    const set = await this.ctx.storage.getAlarm();
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }
}

export const monthOf = (at: number): string => new Date(at).toISOString().slice(0, 7);
