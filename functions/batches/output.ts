/**
 * Writes the answers of a batch that is over into its output file and its error file. The ids are fixed before:
 * a kill on the way makes the next attempt write the same objects and rows again.
 */
import type { BatchAnswer } from '../../shared/contract/batches.ts';
import type { Env } from '../env.ts';
import { addFile, objectOf } from '../files/files.ts';
import { PartWriter } from '../storage/part-writer.ts';
import { type BatchStore, isAnswered, type StoredBatch } from './store.ts';

/** Undone lines read at a time. */
const PAGE = 500;

const UNDONE = {
  expired: { code: 'batch_expired', message: 'This request could not be executed before the completion window expired.' },
  cancelled: { code: 'batch_cancelled', message: 'The batch was cancelled before this request was executed.' },
};

/** Answers which of the two files there are. */
export async function writeFiles(env: Env, store: BatchStore, batch: StoredBatch): Promise<{ output: boolean; errors: boolean }> {
  const { document, job } = batch;
  const { id } = document;
  const output = new OutputFile(env, batch, job.files.output, 'output');
  const errors = new OutputFile(env, batch, job.files.error, 'error');
  try {
    for (let next = store.answerAfter(id, 0); next; next = store.answerAfter(id, next.line))
      await (isAnswered(JSON.parse(next.text) as BatchAnswer) ? output : errors).write(next.text);
    if (job.ending === 'expired' || job.ending === 'cancelled') {
      let after = 0;
      for (let page = store.undone(id, after, PAGE); page.length > 0; page = store.undone(id, after, PAGE)) {
        after = page.at(-1)!.number;
        for (const { number, customId } of page) {
          const answer: BatchAnswer = { id: answerId(id, number), custom_id: customId, response: null, error: UNDONE[job.ending] };
          await errors.write(JSON.stringify(answer));
        }
      }
    }
    return { output: await output.close(), errors: await errors.close() };
  } catch (error) {
    await Promise.all([output.abort(), errors.abort()]);
    throw error;
  }
}

/** Names one line's answer. */
export const answerId = (batch: string, line: number): string => `batch_req_${batch.slice('batch_'.length)}_${line}`;

class OutputFile {
  readonly #env: Env;
  readonly #batch: StoredBatch;
  readonly #id: string;
  readonly #name: string;
  readonly #writer: PartWriter;

  constructor(env: Env, batch: StoredBatch, id: string, kind: 'output' | 'error') {
    this.#env = env;
    this.#batch = batch;
    this.#id = id;
    this.#name = `${batch.document.id}_${kind}.jsonl`;
    this.#writer = new PartWriter(env.BUCKET, objectOf(batch.job.tenant, id));
  }

  async write(line: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
  }

  /** False: there was nothing to write, and there is no file. */
  async close(): Promise<boolean> {
    const { bytes } = this.#writer;
    if (bytes === 0) return false;
    await this.#writer.close();
    const { tenant, outputLifetimeSeconds: lifetime } = this.#batch.job;
    const createdAt = Date.now();
    const expiresAt = lifetime === null ? null : createdAt + lifetime * 1000;
    await addFile(this.#env, {
      id: this.#id,
      tenantId: tenant,
      filename: this.#name,
      purpose: 'batch_output',
      bytes,
      createdAt,
      expiresAt,
    });
    return true;
  }

  async abort(): Promise<void> {
    await this.#writer.abort();
  }
}
