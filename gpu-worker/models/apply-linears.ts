/**
 * Linears with all that comes on top of the weights' product, in one pass (kernels/finish.c):
 *
 *   x ─┬─ product of the precision ── · row scale + bias ──(+)─ y
 *      └─ the adapters of each token's row, by address ─────┘
 *
 * An adapter's table has one entry for each adaptable linear, in the order in which the family lists them.
 */
import type { Graph, Value } from '../graph/ir.ts';
import type { AdaptedRows } from '../graph/kernels.ts';
import type { ApplyLinears } from './family.ts';
import { fp32 } from './fp32.ts';
import { jointBias, jointName, jointWidth, type LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';

/** For linears that stay in float32. */
const EXACT = fp32();

export function applyLinears(
  precision: Precision,
  weights: WeightSource,
  adaptable: readonly LinearSpec[],
  rows: AdaptedRows,
): ApplyLinears {
  const moduleOf = new Map(adaptable.map(({ path }, number) => [path, number]));
  return (g, x, specs, source = weights) => {
    const modules = specs.map(({ path }) => moduleOf.get(path));
    const adapted = modules.every((module) => module !== undefined);
    const linears = specs.map(({ out }, i) => ({ module: modules[i] ?? 0, out }));
    const finish = { linears, adapted: adapted ? rows : null, bias: biasOf(g, specs, source) };
    const form = specs.some(({ exact }) => exact) ? EXACT : precision;
    return form.linear(g, x, specs, source, finish);
  };
}

function biasOf(g: Graph, specs: readonly LinearSpec[], weights: WeightSource): Value | null {
  if (!specs.some(({ bias }) => bias)) return null;
  const read = ({ path }: LinearSpec) => weights.tensor(`${path}.bias`);
  return g.weight(`${jointName(specs)}.bias`, 'f32', [jointWidth(specs)], () => jointBias(specs, read));
}
