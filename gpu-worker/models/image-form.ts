/** The form of adapter images for a base as it is served. */
import type { ImageForm } from './adapter-image.ts';
import type { Precision } from './precision.ts';
import { familyOf } from './registry.ts';
import type { Checkpoint } from './source/interface.ts';

/** Of the layout in adapter-image.ts and of the folds that factors go through. */
const REVISION = '1';

export const imageForm = (checkpoint: Checkpoint, precision: Precision): ImageForm => ({
  id: `${checkpoint.revision}/${precision.name}-${precision.revision}.${REVISION}`,
  baseRevision: checkpoint.revision,
  factors: precision.name === 'fp32' ? 'f32' : 'f16',
  linears: familyOf(checkpoint.config).linears(checkpoint.config, precision, checkpoint),
});
