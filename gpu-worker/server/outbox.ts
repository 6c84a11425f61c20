/**
 * Usage on its way to the ledger. The engine's journal is the only source: this tails it, turns each
 * ended request into one record and sends records until the edge says that they are durable.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Totals, UsageRecord } from '../../shared/contract/worker.ts';
import { Journal } from './journal.ts';
import { acksFile, compact, journalFile } from './outbox-files.ts';

const BATCH = 256;
const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 3000;

/** Delivers records; answers the request ids that are durable in the ledger now. */
export type SendUsage = (records: UsageRecord[], signal: AbortSignal) => Promise<string[]>;

export interface OutboxOptions {
  folder: string;
  send: SendUsage;
  onError: (error: unknown) => void;
}

export class Outbox {
  /** Where the engine must append. */
  readonly journalPath: string;
  readonly #send: SendUsage;
  readonly #onError: (error: unknown) => void;
  readonly #journal: Journal;
  readonly #unacknowledged: Map<string, UsageRecord>;
  readonly #file: FileHandle;
  readonly #acks: FileHandle;
  #offset = 0;
  /** Bytes after the last whole line read. */
  #rest = Buffer.alloc(0);
  #reading: Promise<void> = Promise.resolve();
  #sending: Promise<void> | null = null;
  readonly #stop = new AbortController();

  private constructor(
    options: OutboxOptions,
    journalPath: string,
    journal: Journal,
    records: UsageRecord[],
    file: FileHandle,
    acks: FileHandle,
  ) {
    this.journalPath = journalPath;
    this.#send = options.send;
    this.#onError = options.onError;
    this.#journal = journal;
    this.#unacknowledged = new Map(records.map((record) => [record.request_id, record]));
    this.#file = file;
    this.#acks = acks;
  }

  static async open(options: OutboxOptions): Promise<Outbox> {
    await mkdir(options.folder, { recursive: true });
    const { generation, committed, unacknowledged } = await compact(options.folder, Date.now());
    const path = journalFile(options.folder, generation);
    // 'a+' makes the file, so that it can be read before the engine's first write.
    const file = await open(path, 'a+');
    const acks = await open(acksFile(options.folder, generation), 'a');
    return new Outbox(options, path, new Journal(Object.entries(committed)), unacknowledged, file, acks);
  }

  /** Call when a request ended: reads what the engine wrote and sends what is due. */
  async flush(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#read());
    await this.#reading;
    for (const record of this.#journal.takeEnded()) this.#unacknowledged.set(record.request_id, record);
    if (this.#unacknowledged.size > 0 && !this.#sending && !this.#stop.signal.aborted) {
      this.#sending = this.#deliver().finally(() => {
        this.#sending = null;
      });
    }
  }

  async #read(): Promise<void> {
    for (;;) {
      const { bytesRead, buffer } = await this.#file.read({ buffer: Buffer.alloc(1 << 16), position: this.#offset });
      if (bytesRead === 0) return;
      this.#offset += bytesRead;
      const text = Buffer.concat([this.#rest, buffer.subarray(0, bytesRead)]);
      const end = text.lastIndexOf(0x0a) + 1;
      this.#rest = text.subarray(end);
      this.#journal.fold(text.toString('utf8', 0, end), this.journalPath);
    }
  }

  async #deliver(): Promise<void> {
    let retry = FIRST_RETRY_MS;
    while (this.#unacknowledged.size > 0 && !this.#stop.signal.aborted) {
      const batch = [...this.#unacknowledged.values()].slice(0, BATCH);
      try {
        const settled = (await this.#send(batch, this.#stop.signal)).filter((id) => this.#unacknowledged.has(id));
        await this.#acks.appendFile(settled.map((id) => `${JSON.stringify({ id })}\n`).join(''));
        for (const id of settled) this.#unacknowledged.delete(id);
        if (settled.length === 0) throw new Error(`the edge settled none of ${batch.length} usage records`);
        retry = FIRST_RETRY_MS;
      } catch (error) {
        this.#onError(error);
        await sleep(retry, undefined, { signal: this.#stop.signal }).catch(() => {});
        retry = Math.min(retry * 2, LAST_RETRY_MS);
      }
    }
  }

  async totals(): Promise<Totals['tenants']> {
    await this.flush();
    const tenants: Totals['tenants'] = {};
    const of = (tenant: string) => (tenants[tenant] ??= { engine_committed: 0, outbox: 0, running: 0 });
    for (const [tenant, tokens] of this.#journal.committed) of(tenant).engine_committed = tokens;
    for (const record of this.#unacknowledged.values()) of(record.tenant).outbox += record.prompt_tokens + record.completion_tokens;
    for (const record of this.#journal.open.values()) of(record.tenant).running += record.prompt_tokens + record.completion_tokens;
    return tenants;
  }

  /** Tries once more to deliver, for at most `graceMs`; what is left is sent by the next start. */
  async close(graceMs: number): Promise<void> {
    await this.flush();
    if (this.#sending) await Promise.race([this.#sending, sleep(graceMs)]);
    this.#stop.abort();
    await this.#sending;
    await Promise.all([this.#file.close(), this.#acks.close()]);
  }
}
