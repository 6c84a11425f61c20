/** What the core asks of the model: one run over rows of different lengths. Implemented by executor.ts. */

/** An adapter as a row uses it. */
export interface RowAdapter {
  /** Address of its module table (models/adapter-image.ts); the memory behind it must outlive the run. */
  table: bigint;
  weight: number;
}

/** Some tokens of one sequence, from position `past` on. */
export interface Row {
  tokens: readonly number[];
  past: number;
  /** Pages of all its positions up to its last token. */
  pages: readonly number[];
  adapters: readonly RowAdapter[];
  /** The logits after so many of its last tokens are wanted. */
  wanted: number;
}

export interface Model {
  /** Writes the rows' keys and values into their pages and returns the wanted logits in the rows' order, valid until the next run. */
  run(rows: readonly Row[]): Float32Array[];
}
