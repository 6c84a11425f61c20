/**
 * A mixture of experts (arXiv:1701.06538): a router picks a few gated MLPs for each token, and only these compute.
 *
 *   x ── router → softmax → the k best ── rows in groups, one for each expert ── gate_up · units · down ── back ── Σ w·y
 *   x ── shared expert · σ(gate) ────────────────────────────────────────────────────────────────────────────── (+)
 *
 * The router stays in float32 in every precision: a token whose choice flips is another token.
 */
import type { Value } from '../../graph/ir.ts';
import { type AdaptedRows, finishLinear } from '../../graph/kernels.ts';
import * as ops from '../../graph/ops.ts';
import * as routing from '../../graph/routing.ts';
import { type LinearSpec, ORIGINAL } from '../linear.ts';
import type { Activation } from '../source/config.ts';
import type { Building, MakeBlock } from './block.ts';
import { gatedMlp } from './gated-mlp.ts';
import { blockSigns, runningBasis } from './rotate.ts';

export interface ExpertsOptions {
  hidden: number;
  /** Width of each expert. */
  units: number;
  count: number;
  /** Experts that a token uses. */
  perToken: number;
  /** Whether the weights of the chosen are scaled to sum to one. */
  renormalise: boolean;
  activation: Activation;
  /** Names below the layer: of the router, of expert e, and of its linears there. */
  names?: { router: string; experts: string; gate: string; up: string; down: string };
  /** Width of the expert that every token uses as well, by the weight σ(gate). */
  shared?: number;
}

const NAMES = { router: 'mlp.gate', experts: 'mlp.experts', gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

export const experts =
  ({ hidden, units, count, perToken, renormalise, activation, names = NAMES, ...options }: ExpertsOptions): MakeBlock =>
  (site) => {
    const inner = runningBasis(units, site.rotated);
    const reads = { in: hidden, bias: false, input: site.input, output: ORIGINAL };
    const exact = { ...reads, exact: true };
    const router: LinearSpec = { path: `${site.path}.${names.router}`, out: count, ...exact };
    const paths = Array.from({ length: count }, (_, e) => `${site.path}.${names.experts}.${e}`);
    const gateUps = paths.map((at): LinearSpec[] =>
      [names.gate, names.up].map((name) => ({ path: `${at}.${name}`, out: units, ...reads })),
    );
    const writes = { in: units, out: hidden, bias: false, input: inner, output: site.output };
    const downs = paths.map((at): LinearSpec[] => [{ path: `${at}.${names.down}`, ...writes }]);
    const shared =
      options.shared === undefined
        ? null
        : {
            block: gatedMlp({ hidden, units: options.shared, activation, path: 'mlp.shared_expert' })(site),
            gate: { path: `${site.path}.mlp.shared_expert_gate`, out: 1, ...exact },
          };

    function routed(b: Building, x: Value): Value {
      const { g, precision } = b;
      const logits = g.within('router', () => b.linear(x, router));
      const { weights, chosen } = routing.best(g, ops.softmax(g, logits), perToken, renormalise);
      const groups = routing.groupByExpert(g, chosen, perToken, count);
      const adapted = routing.adaptedGroups(g, b.inputs, groups, perToken, gateUps[0]!.length + downs[0]!.length);
      const through = (leaf: string, rows: Value, parts: readonly Value[], linears: readonly LinearSpec[][]) =>
        g.within(leaf, () => grouped(b, rows, parts, linears, adapted));
      const picked = ops.gatherRows(g, x, groups.tokens, 'picked');
      const gateUp = through('gate_up', picked, precision.cut(g, x, groups.tokens, groups.counts, count), gateUps);
      const hiddenUnits = precision.gatedUnits(g, gateUp, activation, blockSigns(g, inner));
      const y = through('down', hiddenUnits, precision.cut(g, hiddenUnits, null, groups.counts, count), downs);
      return routing.weightedSum(g, ops.gatherRows(g, y, groups.places, 'returned'), weights, perToken);
    }

    return {
      name: 'experts',
      linears: [
        router,
        ...gateUps.flatMap((pair, e) => [...pair, ...downs[e]!]),
        ...(shared ? [...shared.block.linears, shared.gate] : []),
      ],
      bareParameters: [router, ...gateUps.flat(), ...downs.flat()].map(({ path }) => path),
      norms: new Map(),
      build(b, x) {
        const { g } = b;
        const chosen = routed(b, x);
        if (!shared) return chosen;
        const weight = g.within('shared_gate', () => ops.sigmoid(g, b.linear(x, shared.gate)));
        const always = g.within('shared', () => shared.block.build(b, x));
        return ops.add(g, chosen, ops.mul(g, always, weight, 'weighted'), 'together');
      },
    };
  };

/**
 * Each group of rows through linears of its own; the groups' outputs one after another. Adapters are added for all groups
 * at once: a group's rows see tables that begin at their expert (routing.ts), so the first expert's numbers fit all.
 */
function grouped(
  b: Building,
  rows: Value,
  parts: readonly Value[],
  linears: readonly (readonly LinearSpec[])[],
  adapted: AdaptedRows,
): Value {
  const { g, precision, weights } = b;
  const products = parts.map((part, e) => precision.product(g, part, linears[e]!, weights));
  const y = ops.concatRows(
    g,
    products.map((product) => product.y),
  );
  const scales = products.flatMap(({ rowScale }) => rowScale ?? []);
  return finishLinear(g, y, rows, scales.length === 0 ? null : ops.concatRows(g, scales), {
    linears: linears[0]!.map(({ path, out }) => ({ module: b.numberOf(path), out })),
    adapted,
    bias: null,
  });
}
