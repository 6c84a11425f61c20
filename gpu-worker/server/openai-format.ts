/**
 * OpenAI's response objects, chat and completions, whole and streamed: field for field what the
 * official clients parse.
 */
import type { TokenLogprob } from '../../shared/contract/engine.ts';
import type { GenerateRequest, Receipt } from '../../shared/contract/worker.ts';
import type { TextTokenizer } from '../tokenizer/tokenizer.ts';
import type { LogprobEntry, Piece } from './pieces.ts';

export interface Usage {
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
}

/** The two APIs differ in the names of their objects and in what a choice looks like. */
interface ApiFormat {
  idPrefix: string;
  object: string;
  chunkObject: string;
  /** `first`: nothing of this sequence was streamed before. */
  streamChoice(piece: Piece, first: boolean): Record<string, unknown>;
  wholeChoice(piece: Piece): Record<string, unknown>;
}

type TokenNames = (id: number) => { text: string; bytes: number[] | null };

const tokenNames =
  (tokenizer: TextTokenizer | null): TokenNames =>
  (id) =>
    tokenizer
      ? { text: tokenizer.decodeToken(id), bytes: [...tokenizer.tokenBytes(id, { specials: true })] }
      : { text: `token_id:${id}`, bytes: null };

function chatFormat(name: TokenNames): ApiFormat {
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
    streamChoice: (piece, first) => ({
      index: piece.index,
      delta: { ...(first ? { role: 'assistant' } : {}), ...(first || piece.text !== '' ? { content: piece.text } : {}) },
      logprobs: logprobs(piece.logprobs),
      finish_reason: piece.finish,
    }),
    wholeChoice: (piece) => ({
      index: piece.index,
      message: { role: 'assistant', content: piece.text, refusal: null },
      logprobs: logprobs(piece.logprobs),
      finish_reason: piece.finish,
    }),
  };
}

/** Up to k + 1 alternatives: the token itself is always among them, as with OpenAI. */
function completionAlternatives(entry: TokenLogprob, name: TokenNames): Record<string, number> {
  // Without a prototype: "constructor" is a token like any other.
  const alternatives: Record<string, number> = Object.create(null);
  // Worst first, so that of two tokens with the same text the likelier one stays.
  for (const { id, logprob } of [...entry.top].reverse()) alternatives[name(id).text] = logprob;
  alternatives[name(entry.id).text] ??= entry.logprob;
  return alternatives;
}

function completionFormat(name: TokenNames): ApiFormat {
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
      top_logprobs: entries.map(({ logprob }) => logprob && completionAlternatives(logprob, name)),
      text_offset: starts,
    };
  };
  const choice = (piece: Piece) => ({
    index: piece.index,
    text: piece.text,
    logprobs: logprobs(piece.index, piece.logprobs),
    finish_reason: piece.finish,
  });
  return { idPrefix: 'cmpl-', object: 'text_completion', chunkObject: 'text_completion', streamChoice: choice, wholeChoice: choice };
}

const usageBody = (usage: Usage) => ({
  prompt_tokens: usage.promptTokens,
  completion_tokens: usage.completionTokens,
  total_tokens: usage.promptTokens + usage.completionTokens,
  prompt_tokens_details: { cached_tokens: usage.cachedTokens },
});

export class ResponseWriter {
  readonly #format: ApiFormat;
  readonly #request: GenerateRequest;
  readonly #head: Record<string, unknown>;
  readonly #started = new Set<number>();

  constructor(request: GenerateRequest, tokenizer: TextTokenizer | null, now: number) {
    const names = tokenNames(tokenizer);
    this.#request = request;
    this.#format = request.input.kind === 'chat' ? chatFormat(names) : completionFormat(names);
    this.#head = {
      id: this.#format.idPrefix + request.request_id.slice('req_'.length),
      created: Math.floor(now / 1000),
      model: request.model,
      system_fingerprint: `fp_${request.base_revision.slice(0, 12)}`,
    };
  }

  #choice(choice: Record<string, unknown>, piece: Piece): Record<string, unknown> {
    return this.#request.return_token_ids ? { ...choice, token_ids: piece.ids } : choice;
  }

  #chunk(choices: Record<string, unknown>[], more: Record<string, unknown>): string {
    const usage = this.#request.include_usage ? { usage: null } : {};
    return `data: ${JSON.stringify({ ...this.#head, object: this.#format.chunkObject, choices, ...usage, ...more })}\n\n`;
  }

  /** One event of the stream; empty when the piece has nothing to show. `receipt` comes with the last finish_reason. */
  chunk(piece: Piece, receipt: Receipt | null): string {
    const silent = piece.text === '' && piece.finish === null && !piece.logprobs && !this.#request.return_token_ids;
    const first = !this.#started.has(piece.index);
    if (silent && !first) return '';
    this.#started.add(piece.index);
    const choice = this.#choice(this.#format.streamChoice(piece, first), piece);
    return this.#chunk([choice], receipt ? { switchyard: receipt } : {});
  }

  /** What follows the last choice. */
  end(usage: Usage): string {
    const last = this.#request.include_usage ? this.#chunk([], { usage: usageBody(usage) }) : '';
    return `${last}data: [DONE]\n\n`;
  }

  whole(pieces: Piece[], usage: Usage, receipt: Receipt): Record<string, unknown> {
    return {
      ...this.#head,
      object: this.#format.object,
      choices: pieces.map((piece) => this.#choice(this.#format.wholeChoice(piece), piece)),
      usage: usageBody(usage),
      switchyard: receipt,
    };
  }
}
