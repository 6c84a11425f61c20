/** One request's events as the response that its client reads: streamed step by step, or whole at the end. */
import type { ServerResponse } from 'node:http';
import type { EngineEvent } from '../../shared/contract/engine.ts';
import type { GenerateRequest, Receipt, Task } from '../../shared/contract/worker.ts';
import { Failure, toWire } from '../../shared/errors.ts';
import { bestChoices, choosesBest } from './best-of.ts';
import type { ResponseWriter } from './openai-format.ts';
import { collect, type Piece } from './pieces.ts';

/** What may wait in memory for a client that reads slower than the engine generates. */
const MOST_UNREAD_BYTES = 64_000_000;

export type Done = Extract<EngineEvent, { type: 'done' }>;

export const brokenOff = (what: Task, done: Done): Failure =>
  done.outcome === 'expired'
    ? new Failure({ kind: 'unavailable', message: `${what}: the deadline passed before it began`, retryAfterSeconds: 1 })
    : new Failure({ kind: 'internal', message: `${what}: the engine broke off: ${done.error ?? done.outcome}` });

/** Takes one request's events, step by step. */
export interface Answer {
  step(events: EngineEvent[]): void;
  end(done: Done, receipt: Receipt): void;
}

export function streamedAnswer(response: ServerResponse, writer: ResponseWriter, sequences: number): Answer {
  const begin = () => {
    if (response.headersSent) return;
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  };
  let unfinished = sequences;
  /** The last sequence to finish waits for the receipt. */
  let last: Piece | null = null;
  return {
    step(events) {
      const pieces = new Map<number, Piece>();
      collect(events, pieces);
      let text = '';
      for (const piece of pieces.values()) {
        if (piece.finish) unfinished--;
        if (piece.finish && unfinished === 0) last = piece;
        else text += writer.chunk(piece, null);
      }
      if (text === '') return;
      begin();
      response.write(text);
      if (response.writableLength > MOST_UNREAD_BYTES)
        throw new Failure({ kind: 'upstream', message: `generate: the client left ${response.writableLength} bytes of its stream unread` });
    },
    end(done, receipt) {
      if (done.outcome !== 'finished' || !last) {
        if (!response.headersSent) throw brokenOff('generate', done);
        // Without [DONE]: no client takes this for a whole answer.
        response.end(`data: ${JSON.stringify(toWire(brokenOff('generate', done).value).body)}\n\n`);
        return;
      }
      begin();
      response.end(writer.chunk(last, receipt) + writer.end(done.usage));
    },
  };
}

/** `send` gets the body of the response. */
export function wholeAnswer(send: (body: unknown) => void, writer: ResponseWriter, request: GenerateRequest): Answer {
  const pieces = new Map<number, Piece>();
  return {
    step: (events) => collect(events, pieces),
    end(done, receipt) {
      if (done.outcome !== 'finished') throw brokenOff('generate', done);
      const inOrder = [...pieces.values()].sort((a, b) => a.index - b.index);
      const chosen = choosesBest(request) ? bestChoices(inOrder, request) : inOrder;
      send(writer.whole(chosen, done.usage, receipt));
    },
  };
}
