/**
 * What sealing must know of a base model: its modules by their Hugging Face path and their shapes.
 * Filled in by a model family (gpu-worker/models), read by validation and sealing.
 */
export interface BaseModules {
  /** Catalogue id, folder or file name of the base. */
  id: string;
  /** SHA-256 of the base's content. */
  revision: string;
  family: string;
  layers: number;
  /** Every linear of the network except lm_head, e.g. "model.layers.0.self_attn.q_proj"; out × in as in torch. */
  linears: ReadonlyMap<string, { in: number; out: number }>;
  /** Modules that exist but cannot be adapted yet (lm_head, model.embed_tokens, norms): named in refusals. */
  others: ReadonlySet<string>;
  /**
   * Linears that newer versions of transformers hold as bare parameters: an adapter made there has no tensors for
   * them, though its config names them. Absent: none.
   */
  bareParameters?: ReadonlySet<string>;
}
