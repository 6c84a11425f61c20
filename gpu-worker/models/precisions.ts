/** The numeric forms a base can be served in, by name. */
import { Failure } from '../../shared/errors.ts';
import { fp32 } from './fp32.ts';
import { int4 } from './int4.ts';
import { int8 } from './int8.ts';
import type { Precision, PrecisionName } from './precision.ts';
import type { Checkpoint } from './source/checkpoint.ts';

const MAKE: Record<PrecisionName, () => Precision> = { fp32, int8, int4 };

export const precisionOf = (name: PrecisionName): Precision => MAKE[name]();

/**
 * 'auto': int4 for a checkpoint that has 4 bits, since nothing is lost and half the bytes are read; int8 for all others.
 * Throws Failure 'unsupported' naming what there is.
 */
export function parsePrecision(name: string, { fourBit }: Pick<Checkpoint, 'fourBit'>): PrecisionName {
  if (name === 'auto') return fourBit ? 'int4' : 'int8';
  if (Object.hasOwn(MAKE, name)) return name as PrecisionName;
  throw new Failure({
    kind: 'unsupported',
    message: `precision ${JSON.stringify(name)}: expected auto, fp32, int8 or int4`,
    param: 'precision',
  });
}
