/**
 * One interface to the weights of a base model, whatever container they come in: Hugging Face's
 * tensor names and layout ([out, in] for a linear), decoded to float32 one tensor at a time.
 */
import { stat } from 'node:fs/promises';
import { Failure } from '../../../shared/errors.ts';
import type { TokenizerSource } from '../../tokenizer/source.ts';
import type { ModelConfig } from './config.ts';
import { openFolder } from './folder.ts';
import { openGguf } from './gguf.ts';

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

/** Opens a .gguf file or a Hugging Face folder. Reads headers and hashes the content; tensors are read when asked for. */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new Failure({ kind: 'invalid_request', message: `open base ${path}: no such file or folder` }, { cause });
  });
  if (info.isDirectory()) return openFolder(path);
  if (path.endsWith('.gguf')) return openGguf(path);
  throw new Failure({ kind: 'unsupported', message: `open base ${path}: expected a .gguf file or a Hugging Face folder` });
}
