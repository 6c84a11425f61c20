/**
 * The gated MLP (arXiv:2002.05202).
 *
 *   x ─┬─ gate ── activation ─┐
 *      └─ up ───────────────(·)── down ── y
 */
import { type LinearSpec, ORIGINAL } from '../linear.ts';
import type { Activation } from '../source/config.ts';
import type { MakeBlock } from './block.ts';
import { blockSigns, runningBasis } from './rotate.ts';

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
      norms: new Map(),
      build({ g, linear, precision }, x) {
        const gateUp = g.within('gate_up', () => linear(x, ...widened));
        const gated = precision.gatedUnits(g, gateUp, activation, blockSigns(g, inner));
        return g.within('down', () => linear(gated, down));
      },
    };
  };
