/**
 * Changes to single logits: bias, then the repetition penalty over prompt and completion, then frequency and presence
 * penalties over the completion, in the order of vLLM.
 */
import type { SamplingOptions } from '../../../shared/contract/engine.ts';

export class LogitEdits {
  readonly #options: SamplingOptions;
  /** Distinct tokens of prompt and completion; empty unless repetition is penalised. */
  readonly #seen: Set<number>;
  /** How often each token was generated; empty unless that is penalised. */
  readonly #generated = new Map<number, number>();

  constructor(options: SamplingOptions, prompt: readonly number[]) {
    this.#options = options;
    this.#seen = new Set(options.repetitionPenalty === 1 ? [] : prompt);
  }

  /** Whether `apply` would change anything now. */
  get some(): boolean {
    return this.#options.logitBias.length + this.#seen.size + this.#generated.size > 0;
  }

  note(id: number): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = this.#options;
    if (repetitionPenalty !== 1) this.#seen.add(id);
    if (frequencyPenalty !== 0 || presencePenalty !== 0) this.#generated.set(id, (this.#generated.get(id) ?? 0) + 1);
  }

  apply(logits: Float32Array): void {
    const { logitBias, repetitionPenalty, frequencyPenalty, presencePenalty } = this.#options;
    for (const [id, bias] of logitBias) logits[id]! += bias;
    for (const id of this.#seen) logits[id] = logits[id]! > 0 ? logits[id]! / repetitionPenalty : logits[id]! * repetitionPenalty;
    for (const [id, times] of this.#generated) logits[id]! -= frequencyPenalty * times + presencePenalty;
  }
}
