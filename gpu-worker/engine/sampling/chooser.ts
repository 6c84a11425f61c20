/**
 * One sequence's way from logits to tokens: what was generated so far (for penalties), its grammar and its random numbers.
 * The order is bias, penalties, grammar, temperature, min_p, top_k, top_p, draw. An outcome depends on nothing but the
 * rows of logits, the options and the seed.
 */
import type { SamplingOptions, TokenLogprob } from '../../../shared/contract/engine.ts';
import { copyAllowed, type GrammarState } from '../grammar/mask.ts';
import { draw } from './draw.ts';
import { tokenLogprob } from './order.ts';
import { LogitEdits } from './penalties.ts';
import type { Random } from './random.ts';

export type Choice =
  /** The sequence's next token; the chooser has taken note of it. `logprob` is of the model's own distribution. */
  | { type: 'token'; id: number; logprob: TokenLogprob | null }
  /** The grammar's thread has not caught up: nothing was chosen, and the position has to be computed again. */
  | { type: 'pending' }
  /** No token may follow, now or later. */
  | { type: 'failed'; message: string };

/** Where a changed copy of a row is made; the model's own logits are left as they are for logprobs. */
let scratch = new Float32Array();

export class TokenChooser {
  readonly #options: SamplingOptions;
  readonly #edits: LogitEdits;
  readonly #grammar: GrammarState | null;
  readonly #random: Random;

  /** Takes the grammar's state over: `close` ends it. */
  constructor(options: SamplingOptions, prompt: readonly number[], grammar: GrammarState | null, random: Random) {
    this.#options = options;
    this.#edits = new LogitEdits(options, prompt);
    this.#grammar = grammar;
    this.#random = random;
  }

  /** `logits`: one row, [vocabulary], of the position after everything chosen so far. */
  choose(logits: Float32Array): Choice {
    const allowed = this.#grammar?.allowed();
    if (allowed && allowed.type !== 'some') return allowed;
    let row = logits;
    if (allowed || this.#edits.some) {
      if (scratch.length !== logits.length) scratch = new Float32Array(logits.length);
      row = scratch;
      if (!allowed) row.set(logits);
      else if (!copyAllowed(allowed.mask, logits, row))
        return { type: 'failed', message: 'the grammar leaves no token of this base to go on with' };
      this.#edits.apply(row);
    }
    const id = draw(row, this.#options, this.#random);
    this.#edits.note(id);
    this.#grammar?.accept(id);
    const { logprobs } = this.#options;
    return { type: 'token', id, logprob: logprobs === null ? null : tokenLogprob(logits, id, logprobs) };
  }

  close(): void {
    this.#grammar?.close();
  }
}
