/** The numeric forms a base can be served in, by name. */
import { Failure } from '../../shared/errors.ts';
import { fp32 } from './fp32.ts';
import { int4 } from './int4.ts';
import { int8 } from './int8.ts';
import type { Precision, PrecisionName } from './precision.ts';

const MAKE: Record<PrecisionName, () => Precision> = { fp32, int8, int4 };

export const precisionOf = (name: PrecisionName): Precision => MAKE[name]();

/** Fastest where it matters to many: prompts, and batches of several rows. */
const DEFAULT: PrecisionName = 'int8';

/** 'auto' is the default form. Throws Failure 'unsupported' naming what there is. */
export function parsePrecision(name: string): PrecisionName {
  if (name === 'auto') return DEFAULT;
  if (Object.hasOwn(MAKE, name)) return name as PrecisionName;
  const known = new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(['auto', ...Object.keys(MAKE)]);
  throw new Failure({
    kind: 'unsupported',
    message: `precision ${JSON.stringify(name)}: expected ${known}`,
    param: 'precision',
  });
}
