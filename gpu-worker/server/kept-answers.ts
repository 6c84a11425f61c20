/**
 * Requests of batches outlive the connection that they came on: the edge may be restarted meanwhile, and comes
 * back for the answer by its request id. So a request is generated, and billed, once. Answers are kept in
 * memory for as long as an edge may be away, and no longer than there is room.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { RequestRef } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { parseJson, type Route } from './http.ts';

const KEEP_MS = 10 * 60_000;
const KEEP_BYTES = 64_000_000;
/** Proxies on the way cut a call without an answer after 100 s. */
const PATIENCE_MS = 60_000;

interface Kept {
  answer: Promise<Buffer>;
  cancel: AbortController;
  /** Null while it runs. */
  done: { at: number; bytes: number } | null;
}

export class KeptAnswers {
  /** In the order in which they began. */
  readonly #kept = new Map<string, Kept>();

  /** The answer of request `id`, as JSON: `run` makes it unless it is known or under way. A failure is not kept. */
  once(id: string, run: (cancelled: AbortSignal) => Promise<unknown>): Promise<Buffer> {
    return this.find(id) ?? this.#begin(id, run);
  }

  find(id: string): Promise<Buffer> | null {
    return this.#kept.get(id)?.answer ?? null;
  }

  /** Ends a request that runs; one that is done or unknown is left as it is. */
  cancel(id: string): void {
    this.#kept.get(id)?.cancel.abort();
  }

  #begin(id: string, run: (cancelled: AbortSignal) => Promise<unknown>): Promise<Buffer> {
    const cancel = new AbortController();
    const answer = run(cancel.signal).then((body) => Buffer.from(JSON.stringify(body)));
    const kept: Kept = { answer, cancel, done: null };
    this.#kept.set(id, kept);
    answer.then(
      ({ length: bytes }) => {
        kept.done = { at: Date.now(), bytes };
        this.#trim();
      },
      () => this.#kept.delete(id),
    );
    return answer;
  }

  #trim(): void {
    const oldest = Date.now() - KEEP_MS;
    let bytes = 0;
    for (const { done } of this.#kept.values()) bytes += done?.bytes ?? 0;
    for (const [id, { done }] of this.#kept) {
      if (!done || (done.at >= oldest && bytes <= KEEP_BYTES)) continue;
      this.#kept.delete(id);
      bytes -= done.bytes;
    }
  }
}

export function sendKept(response: ServerResponse, bytes: Buffer): void {
  if (response.destroyed) return;
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': bytes.length }).end(bytes);
}

export function keptRoutes(kept: KeptAnswers): Route[] {
  return [
    {
      method: 'POST',
      path: '/answer',
      signed: true,
      async handle(body, response) {
        const { request_id: id } = parseJson(RequestRef, body, 'answer');
        const answer = kept.find(id);
        if (!answer) throw new Failure({ kind: 'not_found', message: `answer: ${id} is not known here`, code: 'not_found' });
        const bytes = await Promise.race([answer, sleep(PATIENCE_MS, null, { ref: false })]);
        if (bytes) sendKept(response, bytes);
        else response.writeHead(202).end();
      },
    },
    {
      method: 'POST',
      path: '/cancel',
      signed: true,
      async handle(body, response) {
        kept.cancel(parseJson(RequestRef, body, 'cancel').request_id);
        response.writeHead(204).end();
      },
    },
  ];
}
