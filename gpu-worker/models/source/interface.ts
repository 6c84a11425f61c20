/**
 * One interface to the weights of a base model, whatever container they come in: Hugging Face's
 * tensor names and layout ([out, in] for a linear), decoded to float32 one tensor at a time.
 */
import type { TokenizerSource } from '../../tokenizer/source.ts';
import type { ModelConfig } from './config.ts';

export interface Checkpoint {
  /** Catalogue id, or the base name of the folder or file. */
  id: string;
  /** SHA-256 of the content: of the GGUF file, or over a folder's config, weight and tokenizer files. */
  revision: string;
  config: ModelConfig;
  /** Exactly the parameters that `config` implies; a tied head has no lm_head.weight. */
  tensorNames(): string[];
  shape(name: string): number[];
  /** Reads and decodes one tensor into memory of the caller's own. */
  tensor(name: string): Float32Array<ArrayBuffer>;
  /** null: the base takes token ids only. */
  tokenizer: TokenizerSource | null;
}
