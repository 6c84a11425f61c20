/** What sealing must know of a base, read off its family. */
import type { BaseModules } from '../shared/adapters/base.ts';
import { fp32 } from './models/fp32.ts';
import { familyOf } from './models/registry.ts';
import type { Checkpoint } from './models/source/checkpoint.ts';

export function baseModules(checkpoint: Checkpoint): BaseModules {
  const { id, revision, config } = checkpoint;
  const family = familyOf(config);
  return {
    id,
    revision,
    family: config.model_type,
    layers: config.num_hidden_layers,
    linears: new Map(family.linears(config, fp32(), checkpoint).map(({ path, in: width, out }) => [path, { in: width, out }])),
    others: new Set(family.otherModules(config)),
    bareParameters: new Set(family.bareParameters(config)),
  };
}
