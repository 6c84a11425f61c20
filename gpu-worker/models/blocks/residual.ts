/**
 * The residual stream of a pre-norm decoder. Each block reads a norm of the stream and leaves a delta; the delta
 * is added in the same pass that computes the next norm.
 */
import type { Graph, Value } from '../../graph/ir.ts';
import * as ops from '../../graph/ops.ts';
import type { Precision } from '../precision.ts';

export class Residual {
  readonly #g: Graph;
  readonly #precision: Precision;
  readonly #epsilon: number;
  #stream: Value;
  #delta: Value | null = null;

  constructor(g: Graph, precision: Precision, stream: Value, epsilon: number) {
    this.#g = g;
    this.#precision = precision;
    this.#stream = stream;
    this.#epsilon = epsilon;
  }

  /** RMS norm of the stream with all deltas so far; `read`: linears read it as it is. */
  norm(gain: Value, read: boolean): Value {
    const { norm, sum } = this.#precision.norm(this.#g, this.#stream, this.#delta, gain, this.#epsilon, read);
    this.#stream = sum;
    this.#delta = null;
    return norm;
  }

  /** What a block adds to the stream; a norm must be read between two additions. */
  add(delta: Value): void {
    if (this.#delta !== null) throw new Error('residual: two blocks added without a norm between them');
    this.#delta = delta;
  }

  /** Goes on with these tokens only. */
  keep(tokens: Value): void {
    this.#stream = ops.gatherRows(this.#g, this.#stream, tokens, 'selected');
    if (this.#delta) this.#delta = ops.gatherRows(this.#g, this.#delta, tokens, 'selected');
  }
}
