/** The model families that can be served. A new family is one file and one row here. */
import type { Family } from './family.ts';
import { llama } from './llama.ts';
import type { ModelConfig } from './source/config.ts';

const FAMILIES: Record<ModelConfig['model_type'], Family> = { llama };

export const familyOf = (config: ModelConfig): Family => FAMILIES[config.model_type];
