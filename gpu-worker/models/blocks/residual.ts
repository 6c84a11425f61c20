/**
 * The residual stream of a pre-norm decoder. Each block reads a norm of the stream and leaves a delta; the delta
 * is added in the same pass that computes the next norm.
 */
import type { Graph, Value } from '../../graph/ir.ts';
import * as ops from '../../graph/ops.ts';

export class Residual {
  readonly #g: Graph;
  readonly #epsilon: number;
  #stream: Value;
  #delta: Value | null = null;

  constructor(g: Graph, stream: Value, epsilon: number) {
    this.#g = g;
    this.#stream = stream;
    this.#epsilon = epsilon;
  }

  /** RMS norm of the stream with all deltas so far. */
  norm(gain: Value): Value {
    if (this.#delta === null) return ops.rmsNorm(this.#g, this.#stream, gain, this.#epsilon);
    const { norm, sum } = ops.addRmsNorm(this.#g, this.#stream, this.#delta, gain, this.#epsilon);
    this.#stream = sum;
    this.#delta = null;
    return norm;
  }

  /** What a block adds to the stream; a norm must be read between two additions. */
  add(delta: Value): void {
    if (this.#delta !== null) throw new Error('residual: two blocks added without a norm between them');
    this.#delta = delta;
  }
}
