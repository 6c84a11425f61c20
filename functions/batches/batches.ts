/**
 * The Batches object: one for each tenant, runs the tenant's batches a few requests at a time. All state is in
 * its SQLite; an alarm keeps it going, and starts it again within seconds after a kill.
 *
 *   validating → in_progress → finalizing → completed | expired
 *       └→ failed    └→ cancelling → cancelled
 */
import { DurableObject } from 'cloudflare:workers';
import { z } from 'zod';
import type { Batch, BatchAnswer } from '../../shared/contract/batches.ts';
import type { PageQuery } from '../../shared/contract/files.ts';
import { ResponseUsage } from '../../shared/contract/responses.ts';
import { type ErrorValue, toWire } from '../../shared/errors.ts';
import { ledgerOf } from '../billing/client.ts';
import type { Env } from '../env.ts';
import { objectOf } from '../files/files.ts';
import { ChatUsage, toUsage } from '../responses/chat.ts';
import { HEARTBEAT_INTERVAL_MS } from '../upstream/placement.ts';
import { parseLine } from './input.ts';
import { type LineOutcome, type LineRequest, recallLine, runLine } from './line.ts';
import { answerId, writeFiles } from './output.ts';
import { BatchStore, type DueLine, type Job, type StoredBatch } from './store.ts';
import { validate } from './validate.ts';

/** Requests that one tenant's batches have under way at once. Workers put them behind all interactive work. */
const CONCURRENCY = 4;
/** Batches of one tenant that may wait or run. */
const MOST_OPEN = 100;
/** Workers may break on a request so often before that is its answer; each time it waits twice as long. */
const MOST_ATTEMPTS = 3;
const FIRST_RETRY_MS = 500;
/** How long after a kill the alarm rings. */
const BEAT_MS = 2_000;
/** An alarm's handler has 15 minutes. */
const TURN_MS = 5 * 60_000;
const FAILED_PAUSE_MS = 5_000;
/** Told to the ledger in one call. */
const VERDICTS = 500;
const ACQUAINTED_MS = 1.5 * HEARTBEAT_INTERVAL_MS;

const LOST: ErrorValue = { kind: 'upstream', message: 'The worker was lost before it had answered.' };

interface Task {
  batch: string;
  isLine: boolean;
  abort: AbortController;
  done: Promise<void>;
}

export class Batches extends DurableObject<Env> {
  readonly #store: BatchStore;
  readonly #tasks = new Map<string, Task>();
  #looping = false;
  #changed = Promise.withResolvers<void>();
  readonly #acquaintedAt = Date.now() + ACQUAINTED_MS;
  /** Workers asked for patience until then. */
  #busyUntil = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new BatchStore(ctx.storage);
  }

  /** Null: the tenant has too many open batches. */
  async create(batch: StoredBatch): Promise<Batch | null> {
    if (this.#store.countOpen() >= MOST_OPEN) return null;
    this.#store.add(batch);
    await this.#wake();
    return batch.document;
  }

  read(id: string): Batch | null {
    return this.#store.get(id)?.document ?? null;
  }

  list(query: PageQuery): Batch[] | null {
    return this.#store.list(query);
  }

  /** The batch as it is afterwards: unchanged if it was over, or about to be. Null: there is none. */
  async cancel(id: string): Promise<Batch | null> {
    const batch = this.#store.get(id);
    if (!batch) return null;
    const { status } = batch.document;
    if (status === 'validating' || status === 'in_progress') {
      this.#end(id, 'cancelled');
      await this.#wake();
    }
    return this.read(id);
  }

  override async alarm(): Promise<void> {
    this.#looping = true;
    try {
      const until = Date.now() + TURN_MS;
      while (Date.now() < until) {
        const changed = this.#changed.promise;
        if (this.#store.countOpen() === 0 && this.#tasks.size === 0) return;
        // Rings if this process is killed before it comes by again.
        await this.ctx.storage.setAlarm(Date.now() + 2 * BEAT_MS);
        await this.#tellLedger();
        for (const batch of this.#store.open()) this.#advance(batch);
        this.#fill();
        await Promise.race([changed, scheduler.wait(BEAT_MS)]);
      }
      await Promise.all([...this.#tasks.values()].map((task) => task.done));
      await this.ctx.storage.setAlarm(Date.now());
    } finally {
      this.#looping = false;
    }
  }

  /** Starts what the batch needs next, beside its lines. */
  #advance(batch: StoredBatch): void {
    const { id, status, expires_at } = batch.document;
    const isRunning = status === 'validating' || status === 'in_progress';
    if (isRunning && expires_at * 1000 <= Date.now()) this.#end(id, 'expired');
    else if (status === 'in_progress' && !this.#store.hasOpenLines(id)) this.#end(id, 'completed');
    else if ([...this.#tasks.values()].every((task) => task.batch !== id)) this.#startWhole(batch);
  }

  /** What is done with a whole batch, while none of its lines runs. */
  #startWhole(batch: StoredBatch): void {
    const { id, status } = batch.document;
    if (status === 'validating') this.#start(id, id, false, (signal) => validate(this.env, this.#store, batch, signal));
    if (status === 'finalizing' || status === 'cancelling') this.#start(id, id, false, () => this.#finalize(batch));
  }

  #fill(): void {
    if (Date.now() < this.#busyUntil) return;
    const running = [...this.#tasks.values()].filter((task) => task.isLine).length;
    if (running >= CONCURRENCY) return;
    for (const line of this.#store.begin(CONCURRENCY - running, Date.now()))
      this.#start(`${line.batch}/${line.number}`, line.batch, true, (signal) => this.#runLine(line, signal));
  }

  #end(id: string, ending: NonNullable<Job['ending']>): void {
    this.#store.enter(id, ending === 'cancelled' ? 'cancelling' : 'finalizing', {}, ending);
    for (const task of this.#tasks.values()) if (task.batch === id) task.abort.abort();
    this.#signal();
  }

  async #finalize(batch: StoredBatch): Promise<void> {
    const { files, ending } = batch.job;
    this.#store.judgeRest(batch.document.id);
    const { output, errors } = await writeFiles(this.env, this.#store, batch);
    // Whoever sees that the batch is over sees its whole bill.
    await this.#tellLedger();
    const changes = { output_file_id: output ? files.output : null, error_file_id: errors ? files.error : null };
    this.#store.close(batch.document.id, ending!, changes);
  }

  async #runLine(line: DueLine, signal: AbortSignal): Promise<void> {
    const { document, job } = this.#store.get(line.batch)!;
    const { tenant, keyId } = job;
    try {
      const body = await this.#bodyOf(tenant, document.input_file_id, line);
      if (body === undefined) {
        this.#finish(line, { response: null, error: { code: 'input_file_deleted', message: 'The input file was deleted.' } }, true);
        return;
      }
      await this.#ask(
        line,
        { tenant, keyId, endpoint: line.endpoint, body, deadline: document.expires_at * 1000, acquaintedAt: this.#acquaintedAt },
        signal,
      );
    } catch (error) {
      this.#store.putBack(line.batch, line.number, signal.aborted);
      throw error;
    }
  }

  async #ask(line: DueLine, request: Omit<LineRequest, 'requestId'>, signal: AbortSignal): Promise<void> {
    if (line.sentAs !== null) {
      await scheduler.wait(Math.max(0, this.#acquaintedAt - Date.now()));
      const recalled = await recallLine(this.env, { ...request, requestId: line.sentAs }, signal);
      if (recalled) {
        this.#settle(line, line.sentAs, recalled);
        return;
      }
    }
    const requestId = this.#store.assignRequestId(line.batch, line.number);
    this.#settle(line, requestId, await runLine(this.env, { ...request, requestId }, signal));
  }

  #settle(line: DueLine, requestId: string, outcome: LineOutcome): void {
    const answered = (status: number, body: unknown, isPaid: boolean) =>
      this.#finish(line, { response: { status_code: status, request_id: requestId, body }, error: null }, isPaid);
    switch (outcome.kind) {
      case 'answered':
        answered(outcome.status, outcome.body, true);
        return;
      case 'busy':
        this.#busyUntil = Date.now() + outcome.retryAfterMs;
        this.#store.putBack(line.batch, line.number, false);
        return;
      case 'broken':
      case 'lost': {
        const { status, body } = toWire(outcome.kind === 'broken' ? outcome.error : LOST);
        const notBefore = Date.now() + FIRST_RETRY_MS * 2 ** line.attempts;
        if (line.attempts + 1 >= MOST_ATTEMPTS) answered(status, body, false);
        else this.#store.retry(line.batch, line.number, notBefore, outcome.kind === 'lost');
        return;
      }
      default:
        outcome satisfies never;
    }
  }

  #finish({ batch, number, customId }: DueLine, answer: Pick<BatchAnswer, 'response' | 'error'>, isPaid: boolean): void {
    const usage = Answered.safeParse(answer.response?.body);
    const whole = { id: answerId(batch, number), custom_id: customId, ...answer };
    this.#store.finish(batch, number, whole, usage.success ? usage.data.usage : null, isPaid);
  }

  async #tellLedger(): Promise<void> {
    for (let verdicts = this.#store.verdicts(VERDICTS); verdicts.length > 0; verdicts = this.#store.verdicts(VERDICTS)) {
      await ledgerOf(this.env, this.#store.tenant()).judge(verdicts);
      this.#store.dropVerdicts(verdicts);
    }
  }

  /** What the line asks for; undefined when the input file is gone. */
  async #bodyOf(tenant: string, file: string, { offset, length }: DueLine): Promise<unknown> {
    const object = await this.env.BUCKET.get(objectOf(tenant, file), { range: { offset, length } });
    if (!object) return undefined;
    return (parseLine(new Uint8Array(await object.arrayBuffer())) as { body: unknown }).body;
  }

  #start(key: string, batch: string, isLine: boolean, work: (signal: AbortSignal) => Promise<void>): void {
    const abort = new AbortController();
    const done = work(abort.signal)
      .catch(async (error: unknown) => {
        if (abort.signal.aborted) return;
        console.error(JSON.stringify({ level: 'error', batch: key, error: error instanceof Error ? error.stack : String(error) }));
        await scheduler.wait(FAILED_PAUSE_MS);
      })
      .finally(() => {
        this.#tasks.delete(key);
        this.#signal();
      });
    this.#tasks.set(key, { batch, isLine, abort, done });
  }

  /** Lets the loop look again. */
  #signal(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async #wake(): Promise<void> {
    this.#signal();
    if (!this.#looping) await this.ctx.storage.setAlarm(Date.now());
  }
}

/** Embeddings complete nothing. */
const PromptUsage = ChatUsage.extend({ completion_tokens: ChatUsage.shape.completion_tokens.default(0) });
/** An answer that tells what it used, in any API's form. */
const Answered = z.object({ usage: z.union([ResponseUsage, PromptUsage.transform(toUsage)]) });
