/** What one step added to one sequence, and the same for a whole answer: the form that responses are made from. */
import type { EngineEvent, TokenLogprob } from '../../shared/contract/engine.ts';

export interface Piece {
  /** Sequence: prompt index · n + choice. OpenAI's `index`. */
  index: number;
  text: string;
  /** Generated ids, without an echoed prompt. */
  ids: number[];
  /** One entry per token, an echoed prompt's first; null when not asked for. */
  logprobs: LogprobEntry[] | null;
  finish: 'stop' | 'length' | null;
}

/** The first token of an echoed prompt has no logprob. */
export interface LogprobEntry {
  id: number;
  logprob: TokenLogprob | null;
}

function append(piece: Piece, text: string, entries: LogprobEntry[] | null): void {
  piece.text += text;
  if (!entries) return;
  piece.logprobs ??= [];
  for (const entry of entries) piece.logprobs.push(entry);
}

/** Folds the events of one step into one piece a sequence, or a whole answer's when `into` is kept between steps. */
export function collect(events: EngineEvent[], into: Map<number, Piece>): void {
  for (const event of events) {
    if (event.type === 'done') continue;
    const piece = into.get(event.sequence) ?? { index: event.sequence, text: '', ids: [], logprobs: null, finish: null };
    into.set(event.sequence, piece);
    switch (event.type) {
      case 'prompt':
        append(piece, event.text, event.logprobs?.map((logprob, i) => ({ id: event.ids[i]!, logprob })) ?? null);
        break;
      case 'tokens':
        append(piece, event.text, event.logprobs?.map((logprob) => ({ id: logprob.id, logprob })) ?? null);
        piece.ids.push(...event.ids);
        break;
      case 'finish':
        piece.text += event.text;
        if (event.reason !== 'cancelled') piece.finish = event.reason;
        break;
      default:
        event satisfies never;
    }
  }
}
