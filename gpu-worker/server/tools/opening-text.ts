/** Puts a special token that opens calls back into the shown text, which leaves special tokens out. */
import type { TextStream } from '../../tokenizer/stream.ts';
import type { TextTokenizer } from '../../tokenizer/tokenizer.ts';

export class OpeningText {
  readonly #token: number;
  readonly #opening: string;
  readonly #stream: TextStream;
  /** Characters that the tokens so far stand for, and those shown: text may be held back. */
  #decoded = 0;
  #shown = 0;
  /** Where in the shown text openings belong that it has not reached yet. */
  readonly #due: number[] = [];

  constructor(token: number, opening: string, tokenizer: TextTokenizer) {
    this.#token = token;
    this.#opening = opening;
    this.#stream = tokenizer.stream();
  }

  push(ids: readonly number[], text: string): string {
    for (const id of ids) {
      if (id === this.#token) this.#due.push(this.#decoded);
      else this.#decoded += this.#stream.push(id).length;
    }
    const from = this.#shown;
    this.#shown += text.length;
    let restored = '';
    let at = 0;
    while (this.#due.length > 0 && this.#due[0]! <= this.#shown) {
      const place = this.#due.shift()! - from;
      restored += text.slice(at, place) + this.#opening;
      at = place;
    }
    return restored + text.slice(at);
  }
}
