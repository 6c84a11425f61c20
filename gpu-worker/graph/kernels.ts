/** Operators of our own (kernels/*.c), on activations [tokens, width]. A token's result does not depend on other tokens. */
import type { Graph, Value } from './ir.ts';

const DOMAIN = 'switchyard';

/** Positions of a sequence whose keys and values lie in one page of a pool. */
export const PAGE_TOKENS = 32;

const widthOf = (x: Value): number => Number(x.dims[1]);

/** x = (values − 128) / 127 · largest, row by row. */
export interface QuantizedRows {
  /** u8 [tokens, width] */
  values: Value;
  /** Largest magnitude of each row, f32 [tokens, 1]. */
  largest: Value;
}

function quantizedOutputs(g: Graph, x: Value): QuantizedRows {
  return {
    values: { name: g.path('quantized'), dtype: 'u8', dims: x.dims },
    largest: { name: g.path('largest'), dtype: 'f32', dims: [x.dims[0]!, 1] },
  };
}

export function quantizeRows(g: Graph, x: Value): QuantizedRows {
  const q = quantizedOutputs(g, x);
  g.node('QuantizeRows', [x], [q.values, q.largest], {}, DOMAIN);
  return q;
}

/**
 * sum = stream + delta;  norm = gain ∘ sum / √(mean(sum²) + ε), and the same in 8 bits.
 * Without a delta the sum is the stream.
 */
export function addNormQuantize(
  g: Graph,
  stream: Value,
  delta: Value | null,
  gain: Value,
  epsilon: number,
  quantized: boolean,
): { norm: Value; sum: Value; quantized: QuantizedRows | null } {
  const norm = { ...stream, name: g.path('norm') };
  const sum = delta === null ? stream : { ...stream, name: g.path('residual') };
  const q = quantized ? quantizedOutputs(g, stream) : null;
  const outputs = [norm, delta === null ? null : sum, ...(q ? [q.values, q.largest] : [])];
  g.node('AddNormQuantize', [stream, delta, gain], outputs, { epsilon: { float: epsilon } }, DOMAIN);
  return { norm, sum, quantized: q };
}

/** Activations of gated units, by their names in config.json and in the numbering of the kernel. */
const ACTIVATIONS = { silu: 0, gelu_pytorch_tanh: 1, gelu: 2 } as const;
export type Activation = keyof typeof ACTIVATIONS;

/**
 * act(gate) ∘ up, from [gate | up] [tokens, 2·units]. With `signs` [w], w a power of two up to 64, blocks of w units are
 * then turned: units ∘ signs, times the Walsh–Hadamard matrix of ±1.
 */
export function gatedUnits(
  g: Graph,
  gateUp: Value,
  activation: Activation,
  signs: Value | null,
  quantized: boolean,
): { units: Value; quantized: QuantizedRows | null } {
  const units = { ...gateUp, name: g.path('units'), dims: [gateUp.dims[0]!, widthOf(gateUp) / 2] };
  const q = quantized ? quantizedOutputs(g, units) : null;
  const outputs = [units, ...(q ? [q.values, q.largest] : [])];
  g.node('GatedUnits', [gateUp, signs], outputs, { activation: { int: ACTIVATIONS[activation] } }, DOMAIN);
  return { units, quantized: q };
}

/** Outputs of a block linear that are computed at once, and its inputs that share a scale. */
export const LANES = 16;
export const BLOCK_INPUTS = 32;

/** Bytes of 16 outputs' weights for 32 inputs: levels, then a scale and a least value for each output. */
export const blockBytes = (bits: 4 | 8): number => (BLOCK_INPUTS * LANES * bits) / 8 + 2 * 2 * LANES;

/** Which rows a run has, and whose adapters they use. */
export interface AdaptedRows {
  /** i32 [R, 3]: first token, tokens, tokens before them. */
  rows: Value;
  /** i64 [R, M, 2]: address of an adapter's table, or 0; bits of the float32 weight. */
  adapters: Value;
}

/** One of the linears whose outputs lie side by side: its entry in adapters' tables, and its outputs. */
export interface FinishedLinear {
  module: number;
  out: number;
}

/** What comes on top of the product of linears whose outputs lie side by side. */
export interface Finish {
  linears: readonly FinishedLinear[];
  /** null: the linears take no adapter. */
  adapted: AdaptedRows | null;
  /** f32 [Σ out] */
  bias: Value | null;
}

const finishAttributes = ({ linears }: Finish) => ({
  modules: { ints: linears.map(({ module }) => module) },
  widths: { ints: linears.map(({ out }) => out) },
});

/** y · rowScale + bias + Σ w · scale · (x · Aᵀ) · B over the adapters of each token's row; y [tokens, Σ out], x [tokens, in]. */
export function finishLinear(g: Graph, y: Value, x: Value, rowScale: Value | null, finish: Finish): Value {
  const { adapted, bias } = finish;
  if (rowScale === null && adapted === null && bias === null) return y;
  const out = { ...y, name: g.path('finished') };
  g.node('FinishLinear', [y, x, adapted?.rows ?? null, adapted?.adapters ?? null, rowScale, bias], [out], finishAttributes(finish), DOMAIN);
  return out;
}

/** x [tokens, in] · W, finished; `weight` u8 [⌈Σ out/16⌉, ⌈in/32⌉, blockBytes], see models/int4.ts. */
export function blockLinear(g: Graph, x: Value, weight: Value, bits: 4 | 8, finish: Finish): Value {
  const { linears, adapted, bias } = finish;
  const y = { ...x, name: g.path('matmul'), dims: [x.dims[0]!, linears.reduce((sum, { out }) => sum + out, 0)] };
  const inputs = [x, weight, adapted?.rows ?? null, adapted?.adapters ?? null, bias];
  g.node('BlockLinear', inputs, [y], { ...finishAttributes(finish), bits: { int: bits } }, DOMAIN);
  return y;
}
