/**
 * The gated MLP (arXiv:2002.05202).
 *
 *   x ─┬─ gate ── activation ─┐
 *      └─ up ───────────────(·)── down ── y
 */
import type { Graph, Value } from '../../graph/ir.ts';
import * as ops from '../../graph/ops.ts';
import { type LinearSpec, ORIGINAL } from '../linear.ts';
import type { Activation } from '../source/config.ts';
import type { MakeBlock } from './block.ts';
import { rotateBlocks, runningBasis } from './rotate.ts';

export interface GatedMlpOptions {
  hidden: number;
  /** Width of gate and up. */
  units: number;
  activation: Activation;
  bias?: boolean;
  /** Gate and up as one module, gate first (phi3). */
  fused?: boolean;
  /** Module path below the layer. */
  path?: string;
}

export const gatedMlp =
  ({ hidden, units, activation, bias = false, fused = false, path = 'mlp' }: GatedMlpOptions): MakeBlock =>
  (site) => {
    const at = `${site.path}.${path}`;
    const inner = runningBasis(units, site.rotated);
    const reads = { in: hidden, bias, input: site.input, output: ORIGINAL };
    const widened: LinearSpec[] = fused
      ? [{ path: `${at}.gate_up_proj`, out: 2 * units, ...reads }]
      : [
          { path: `${at}.gate_proj`, out: units, ...reads },
          { path: `${at}.up_proj`, out: units, ...reads },
        ];
    const down: LinearSpec = { path: `${at}.down_proj`, in: units, out: hidden, bias, input: inner, output: site.output };
    return {
      name: 'mlp',
      linears: [...widened, down],
      fixed: [],
      norms: new Map(),
      build({ g, linear }, x) {
        const parts = fused
          ? ops.splitLast(
              g,
              g.within('gate_up', () => linear(x, widened[0]!)),
              [units, units],
            )
          : widened.map((spec, i) => g.within(i === 0 ? 'gate' : 'up', () => linear(x, spec)));
        const turned = rotateBlocks(g, gatedUnits(g, activation, parts[0]!, parts[1]!), inner);
        return g.within('down', () => linear(turned, down));
      },
    };
  };

/** activation(gate) ∘ up */
export const gatedUnits = (g: Graph, activation: Activation, gate: Value, up: Value): Value =>
  ops.mul(g, ACTIVATIONS[activation](g, gate), up, 'units');

const ACTIVATIONS: Record<Activation, (g: Graph, x: Value) => Value> = { silu: ops.silu, gelu_pytorch_tanh: ops.geluTanh };
