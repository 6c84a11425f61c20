/**
 * OpenAI's response objects, chat and completions, whole and streamed: field for field what the
 * official clients parse.
 */
import type { GenerateRequest, Receipt } from '../../shared/contract/worker.ts';
import { chatFormat } from './chat-format.ts';
import type { ChoiceFormat } from './choice-format.ts';
import { completionFormat } from './completion-format.ts';
import type { Piece } from './pieces.ts';
import type { TextSide } from './prompts.ts';
import { tokenNames } from './token-names.ts';
import { callingText } from './tools/calling-text.ts';
import type { ToolOffer } from './tools/offer.ts';

export interface Usage {
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
}

/** Nothing here reasons where it is not seen; clients read the field even so. */
const usageBody = (usage: Usage) => ({
  prompt_tokens: usage.promptTokens,
  completion_tokens: usage.completionTokens,
  total_tokens: usage.promptTokens + usage.completionTokens,
  prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  completion_tokens_details: { reasoning_tokens: 0 },
});

function formatFor(input: GenerateRequest['input'], offer: ToolOffer | null, text: TextSide | null): ChoiceFormat {
  const names = tokenNames(text?.tokenizer ?? null);
  if (input.kind === 'completion') return completionFormat(names);
  return chatFormat(names, offer && text ? () => callingText(offer, text.tokenizer) : null);
}

export class ResponseWriter {
  readonly #format: ChoiceFormat;
  readonly #request: GenerateRequest;
  readonly #head: Record<string, unknown>;
  readonly #started = new Set<number>();

  constructor(request: GenerateRequest, offer: ToolOffer | null, text: TextSide | null, now: number) {
    this.#request = request;
    this.#format = formatFor(request.input, offer, text);
    this.#head = {
      id: this.#format.idPrefix + request.request_id.slice('req_'.length),
      created: Math.floor(now / 1000),
      model: request.model,
      system_fingerprint: `fp_${request.base_revision.slice(0, 12)}`,
      service_tier: request.priority === 'batch' && !request.from_batch ? 'flex' : 'default',
    };
  }

  #choice(choice: Record<string, unknown>, ids: number[]): Record<string, unknown> {
    return this.#request.return_token_ids ? { ...choice, token_ids: ids } : choice;
  }

  #chunk(choices: Record<string, unknown>[], more: Record<string, unknown>): string {
    const usage = this.#request.include_usage ? { usage: null } : {};
    return `data: ${JSON.stringify({ ...this.#head, object: this.#format.chunkObject, choices, ...usage, ...more })}\n\n`;
  }

  /** Events of the stream; empty when the piece has nothing to show. `receipt` comes with the last finish_reason. */
  chunk(piece: Piece, receipt: Receipt | null): string {
    const first = !this.#started.has(piece.index);
    const choices = this.#format.streamChoices(piece, { first, always: this.#request.return_token_ids });
    if (choices.length > 0) this.#started.add(piece.index);
    return choices
      .map((choice, i) => {
        const isLast = i === choices.length - 1;
        return this.#chunk([this.#choice(choice, i === 0 ? piece.ids : [])], receipt && isLast ? { switchyard: receipt } : {});
      })
      .join('');
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
      choices: pieces.map((piece) => this.#choice(this.#format.wholeChoice(piece), piece.ids)),
      usage: usageBody(usage),
      switchyard: receipt,
    };
  }
}
