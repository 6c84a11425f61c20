/** One choice of a request that may call tools: its pieces through the form that its base speaks. */
import type { TextTokenizer } from '../../tokenizer/tokenizer.ts';
import type { ChoiceText } from '../chat-format.ts';
import type { ToolOffer } from './offer.ts';
import { OpeningText } from './opening-text.ts';
import { ToolReader } from './reader.ts';

export function callingText({ form, required, openingToken }: ToolOffer, tokenizer: TextTokenizer): ChoiceText {
  const reader = new ToolReader(form, required && openingToken !== null);
  const opening = openingToken === null ? null : new OpeningText(openingToken, form.opening, tokenizer);
  return {
    get called() {
      return reader.called;
    },
    push({ ids, text, finish }) {
      const delta = reader.push(opening ? opening.push(ids, text) : text);
      if (!finish) return delta;
      const rest = reader.finish();
      return { content: delta.content + rest.content, calls: [...delta.calls, ...rest.calls] };
    },
  };
}
