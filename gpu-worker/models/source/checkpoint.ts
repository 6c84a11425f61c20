/** Opens a base model by its path, whichever container it is. */
import { stat } from 'node:fs/promises';
import { Failure } from '../../../shared/errors.ts';
import { openFolder } from './folder.ts';
import { openGguf } from './gguf.ts';
import type { Checkpoint } from './interface.ts';

export type { Checkpoint } from './interface.ts';

/** Opens a .gguf file or a Hugging Face folder. Reads headers and hashes the content; tensors are read when asked for. */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new Failure({ kind: 'invalid_request', message: `open base ${path}: no such file or folder` }, { cause });
  });
  if (info.isDirectory()) return openFolder(path);
  if (path.endsWith('.gguf')) return openGguf(path);
  throw new Failure({ kind: 'unsupported', message: `open base ${path}: expected a .gguf file or a Hugging Face folder` });
}
