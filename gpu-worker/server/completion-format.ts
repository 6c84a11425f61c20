/** Choices of text completions, whole and streamed. */
import type { TokenLogprob } from '../../shared/contract/engine.ts';
import type { ChoiceFormat } from './choice-format.ts';
import type { LogprobEntry, Piece } from './pieces.ts';
import type { TokenNames } from './token-names.ts';

/** Up to k + 1 alternatives: the token itself is always among them, as with OpenAI. */
function alternatives(entry: TokenLogprob, name: TokenNames): Record<string, number> {
  // Without a prototype: "constructor" is a token like any other.
  const named: Record<string, number> = Object.create(null);
  // Worst first, so that of two tokens with the same text the likelier one stays.
  for (const { id, logprob } of [...entry.top].reverse()) named[name(id).text] = logprob;
  named[name(entry.id).text] ??= entry.logprob;
  return named;
}

export function completionFormat(name: TokenNames): ChoiceFormat {
  /** Characters of a sequence's tokens so far, by sequence: where the next token's text begins in `text`. */
  const offsets = new Map<number, number>();
  const logprobs = (index: number, entries: LogprobEntry[] | null) => {
    if (!entries) return null;
    const tokens = entries.map(({ id }) => name(id).text);
    let offset = offsets.get(index) ?? 0;
    const starts = tokens.map((text) => {
      const start = offset;
      offset += text.length;
      return start;
    });
    offsets.set(index, offset);
    return {
      tokens,
      token_logprobs: entries.map(({ logprob }) => logprob?.logprob ?? null),
      top_logprobs: entries.map(({ logprob }) => logprob && alternatives(logprob, name)),
      text_offset: starts,
    };
  };
  const choice = (piece: Piece) => ({
    index: piece.index,
    text: piece.text,
    logprobs: logprobs(piece.index, piece.logprobs),
    finish_reason: piece.finish,
  });
  return {
    idPrefix: 'cmpl-',
    object: 'text_completion',
    chunkObject: 'text_completion',
    streamChoices(piece, { first, always }) {
      const silent = piece.text === '' && piece.finish === null && !piece.logprobs;
      return silent && !first && !always ? [] : [choice(piece)];
    },
    wholeChoice: choice,
  };
}
