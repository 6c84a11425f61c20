/** Choices of chat completions: what was said and what was called, whole and in deltas. */
import type { ChoiceFormat } from './choice-format.ts';
import type { LogprobEntry, Piece } from './pieces.ts';
import type { TokenNames } from './token-names.ts';
import type { ToolDelta } from './tools/reader.ts';

/** Parts one choice's text into content and calls; one for each choice. */
export interface ChoiceText {
  push(piece: Piece): ToolDelta;
  /** Whether anything was called so far. */
  readonly called: boolean;
}

interface Call {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

export function chatFormat(name: TokenNames, choiceText: (() => ChoiceText) | null): ChoiceFormat {
  const texts = new Map<number, ChoiceText>();
  const read = (piece: Piece): ToolDelta => {
    if (!choiceText) return { content: piece.text, calls: [] };
    const text = texts.get(piece.index) ?? choiceText();
    texts.set(piece.index, text);
    return text.push(piece);
  };
  const finishOf = (piece: Piece) => (piece.finish === 'stop' && texts.get(piece.index)?.called ? 'tool_calls' : piece.finish);
  const token = (entry: { id: number; logprob: number }) => {
    const { text, bytes } = name(entry.id);
    return { token: text, logprob: entry.logprob, bytes };
  };
  const logprobs = (entries: LogprobEntry[] | null) =>
    entries && {
      content: entries.flatMap(({ logprob }) => (logprob ? [{ ...token(logprob), top_logprobs: logprob.top.map(token) }] : [])),
      refusal: null,
    };

  return {
    idPrefix: 'chatcmpl-',
    object: 'chat.completion',
    chunkObject: 'chat.completion.chunk',
    streamChoices(piece, { first, always }) {
      const { content, calls } = read(piece);
      const deltas: Record<string, unknown>[] = [];
      // Nothing said yet is null where it may remain so.
      const said = content === '' && choiceText ? null : content;
      if (first) deltas.push({ role: 'assistant', content: said });
      else if (content !== '') deltas.push({ content });
      for (const { index, begins, arguments: text } of calls) {
        if (begins) deltas.push(callDelta({ index, id: begins.id, type: 'function', function: { name: begins.name, arguments: '' } }));
        if (text !== '') deltas.push(callDelta({ index, function: { arguments: text } }));
      }
      if (deltas.length === 0 && (always || piece.finish || piece.logprobs)) deltas.push({});
      return deltas.map((delta, i) => ({
        index: piece.index,
        delta,
        logprobs: i === 0 ? logprobs(piece.logprobs) : null,
        finish_reason: i === deltas.length - 1 ? finishOf(piece) : null,
      }));
    },
    wholeChoice(piece) {
      const { content, calls } = read(piece);
      const whole = wholeCalls(calls);
      return {
        index: piece.index,
        message: {
          role: 'assistant',
          content: content === '' && whole.length > 0 ? null : content,
          refusal: null,
          ...(whole.length > 0 ? { tool_calls: whole } : {}),
        },
        logprobs: logprobs(piece.logprobs),
        finish_reason: finishOf(piece),
      };
    },
  };
}

const callDelta = (call: Record<string, unknown>) => ({ tool_calls: [call] });

function wholeCalls(deltas: ToolDelta['calls']): Call[] {
  const calls: Call[] = [];
  for (const { index, begins, arguments: text } of deltas) {
    if (begins) calls[index] = { id: begins.id, type: 'function', function: { name: begins.name, arguments: '' } };
    calls[index]!.function.arguments += text;
  }
  return calls;
}
