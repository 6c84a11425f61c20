/** What sealing must know of a base, read off its checkpoint: linears are its matrices, except embedding and head. */
import type { BaseModules } from '../shared/adapters/base.ts';
import type { Checkpoint } from './models/source/checkpoint.ts';

const EMBEDDING = /(^|\.)(embed_tokens|lm_head)$/;

export function baseModules(checkpoint: Checkpoint): BaseModules {
  const linears = new Map<string, { in: number; out: number }>();
  const others = new Set(['lm_head']);
  for (const name of checkpoint.tensorNames()) {
    if (!name.endsWith('.weight')) continue;
    const module = name.slice(0, -'.weight'.length);
    const [out, columns] = checkpoint.shape(name);
    if (out === undefined || columns === undefined || EMBEDDING.test(module)) others.add(module);
    else linears.set(module, { in: columns, out });
  }
  const { id, revision, config } = checkpoint;
  return { id, revision, family: config.model_type, layers: config.num_hidden_layers, linears, others };
}
