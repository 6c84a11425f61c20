/** The model families that can be served. A new family is one file and one row here. */
import { Failure } from '../../shared/errors.ts';
import { bert } from './bert.ts';
import type { Family } from './family.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3 } from './gemma3.ts';
import { granite } from './granite.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { mixtral } from './mixtral.ts';
import { olmoe } from './olmoe.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen2Moe } from './qwen2-moe.ts';
import { qwen3 } from './qwen3.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import type { ModelConfig } from './source/config.ts';

const ALL: readonly Family[] = [llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3, granite, mixtral, qwen2Moe, qwen3Moe, olmoe, bert];

/** By model_type. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map(ALL.map((family) => [family.modelType, family]));

export function familyOf({ model_type }: Pick<ModelConfig, 'model_type'>): Family {
  const known = FAMILIES.get(model_type);
  if (!known) throw new Failure({ kind: 'internal', message: `no model family ${model_type}` });
  return known;
}
