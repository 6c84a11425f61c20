/**
 * Llama (arXiv:2302.13971) and what shares its shape: pre-norm decoder, rotary positions, grouped-query attention, SwiGLU.
 *
 *   ids → embedding ─┬──────────────(+)─┬────────────────────(+)─ … ─ norm → head → logits
 *                    └ norm → attention ┘└ norm → silu(gate)·up → down ┘
 *
 * Under a precision that rotates, the stream is kept in a rotated basis (see rotation.ts), norm gains are folded into
 * the linears that follow, and values are rotated head by head. The function computed is the same.
 */
import { Failure } from '../../shared/errors.ts';
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import { Residual } from './blocks/residual.ts';
import type { DecoderInputs, Family } from './family.ts';
import { type Basis, intoBasis, type LinearSpec, ORIGINAL } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import { ropeTable } from './rope.ts';
import { type Rotation, rotation } from './rotation.ts';
import type { ModelConfig } from './source/config.ts';

const layer = (i: number) => `model.layers.${i}`;
const EMBEDDING = 'model.embed_tokens';
const HEAD = 'lm_head';
const FINAL_NORM = 'model.norm';

/** Hidden units of the MLP are rotated while running, in blocks small enough to cost next to nothing. */
const MAX_BLOCK = 64;
/** Share of the stream's channels that count as loud. */
const LOUD_SHARE = 1 / 72;
const blockOf = (width: number): number => Math.min(MAX_BLOCK, width & -width);

/** The bases of the network's activations. */
function basesOf(config: ModelConfig, precision: Precision, weights: WeightSource) {
  if (!precision.rotated) {
    const original = () => ORIGINAL;
    return { stream: ORIGINAL, heads: ORIGINAL, mlp: ORIGINAL, afterNorm: original as (norm: string) => Basis };
  }
  const stream: Basis = { gain: null, rotation: rotation(config.hidden_size) };
  let channels: number[] | null = null;
  const loud = () => {
    channels ??= loudChannels(config, weights);
    return channels;
  };
  return {
    stream,
    heads: { gain: null, rotation: rotation(config.head_dim) },
    mlp: { gain: null, rotation: rotation(blockOf(config.intermediate_size)) },
    afterNorm: (norm: string): Basis => ({ gain: weights.tensor(`${norm}.weight`), rotation: stream.rotation, loud }),
  };
}

/** The attention operator's own limit. */
const HEAD_MULTIPLE = 16;

function linears(config: ModelConfig, precision: Precision, weights: WeightSource): LinearSpec[] {
  if (config.head_dim % HEAD_MULTIPLE !== 0) {
    const message = `llama: head_dim: expected a multiple of ${HEAD_MULTIPLE}, got ${config.head_dim}`;
    throw new Failure({ kind: 'unsupported', message });
  }
  const { hidden_size: hidden, intermediate_size: ff, attention_bias, mlp_bias } = config;
  const q = config.num_attention_heads * config.head_dim;
  const kv = config.num_key_value_heads * config.head_dim;
  const { stream, heads, mlp, afterNorm } = basesOf(config, precision, weights);
  return Array.from({ length: config.num_hidden_layers }, (_, i): LinearSpec[] => {
    const attention = afterNorm(`${layer(i)}.input_layernorm`);
    const afterAttention = afterNorm(`${layer(i)}.post_attention_layernorm`);
    return [
      { path: `${layer(i)}.self_attn.q_proj`, in: hidden, out: q, bias: attention_bias, input: attention, output: ORIGINAL },
      { path: `${layer(i)}.self_attn.k_proj`, in: hidden, out: kv, bias: attention_bias, input: attention, output: ORIGINAL },
      { path: `${layer(i)}.self_attn.v_proj`, in: hidden, out: kv, bias: attention_bias, input: attention, output: heads },
      { path: `${layer(i)}.self_attn.o_proj`, in: q, out: hidden, bias: attention_bias, input: heads, output: stream },
      { path: `${layer(i)}.mlp.gate_proj`, in: hidden, out: ff, bias: mlp_bias, input: afterAttention, output: ORIGINAL },
      { path: `${layer(i)}.mlp.up_proj`, in: hidden, out: ff, bias: mlp_bias, input: afterAttention, output: ORIGINAL },
      {
        path: `${layer(i)}.mlp.down_proj`,
        in: ff,
        out: hidden,
        bias: mlp_bias,
        input: mlp,
        output: stream,
      },
    ];
  }).flat();
}

function build(
  g: Graph,
  config: ModelConfig,
  specs: ReadonlyMap<string, LinearSpec>,
  precision: Precision,
  weights: WeightSource,
  inputs: DecoderInputs,
  apply: Parameters<Family['build']>[6],
): Value {
  const { hidden_size: hidden, vocab_size: vocab, head_dim } = config;
  const { stream, mlp, afterNorm } = basesOf(config, precision, weights);
  const linear = (x: Value, ...paths: string[]) =>
    apply(
      g,
      x,
      paths.map((path) => specs.get(path)!),
    );
  const gain = (name: string): Value =>
    precision.rotated
      ? g.weight(`ones.${hidden}`, 'f32', [hidden], () => new Float32Array(hidden).fill(1))
      : g.weight(`${name}.weight`, 'f32', [hidden], () => weights.tensor(`${name}.weight`));
  const half = [config.max_position_embeddings, head_dim / 2];
  const cos = g.weight('rope.cos', 'f32', half, () => ropeTable(config, Math.cos));
  const sin = g.weight('rope.sin', 'f32', half, () => ropeTable(config, Math.sin));
  const options = { heads: config.num_attention_heads, kvHeads: config.num_key_value_heads, scale: head_dim ** -0.5 };

  const table = g.weight(EMBEDDING, 'f32', [vocab, hidden], () => {
    const rows = weights.tensor(`${EMBEDDING}.weight`);
    intoBasis(rows, hidden, stream);
    return rows;
  });
  const residual = new Residual(g, ops.gatherRows(g, table, inputs.ids, 'embedding'), config.rms_norm_eps);

  for (let i = 0; i < config.num_hidden_layers; i++) {
    g.within(`layers.${i}.attn`, () => {
      const x = residual.norm(gain(`${layer(i)}.input_layernorm`));
      const qkv = g.within('qkv', () => linear(x, ...['q', 'k', 'v'].map((p) => `${layer(i)}.self_attn.${p}_proj`)));
      const position = { lastIndex: inputs.lastIndex, total: inputs.total, cos, sin };
      const attended = ops.cachedAttention(g, qkv, inputs.cache(i), position, presentNames(i), options);
      g.output(attended.key);
      g.output(attended.value);
      residual.add(g.within('o', () => linear(attended.out, `${layer(i)}.self_attn.o_proj`)));
    });
    g.within(`layers.${i}.mlp`, () => {
      const x = residual.norm(gain(`${layer(i)}.post_attention_layernorm`));
      const gate = g.within('gate', () => linear(x, `${layer(i)}.mlp.gate_proj`));
      const up = g.within('up', () => linear(x, `${layer(i)}.mlp.up_proj`));
      const units = ops.mul(g, ops.silu(g, gate), up, 'swiglu');
      const hiddenUnits = mlp.rotation ? rotateBlocks(g, units, mlp.rotation) : units;
      residual.add(g.within('down', () => linear(hiddenUnits, `${layer(i)}.mlp.down_proj`)));
    });
  }

  return g.within('head', () => {
    const flat = ops.reshape(g, residual.norm(gain(FINAL_NORM)), [-1, hidden], ['tokens', hidden]);
    const head: LinearSpec = { path: HEAD, in: hidden, out: vocab, bias: false, input: afterNorm(FINAL_NORM), output: ORIGINAL };
    const tied: WeightSource = {
      tensor: (name) => weights.tensor(config.tie_word_embeddings && name === `${HEAD}.weight` ? `${EMBEDDING}.weight` : name),
    };
    return precision.linear(g, ops.gatherRows(g, flat, inputs.select, 'selected'), [head], tied);
  });
}

/**
 * Channels of the stream that hold most of its energy whatever the text ("massive activations", arXiv:2402.17762):
 * those that the blocks write to with the largest weights.
 */
function loudChannels(config: ModelConfig, weights: WeightSource): number[] {
  const energy = new Float64Array(config.hidden_size);
  for (let i = 0; i < config.num_hidden_layers; i++) {
    for (const path of [`${layer(i)}.self_attn.o_proj`, `${layer(i)}.mlp.down_proj`]) {
      const weight = weights.tensor(`${path}.weight`);
      const width = weight.length / energy.length;
      for (let at = 0; at < weight.length; at++) energy[Math.floor(at / width)]! += weight[at]! ** 2;
    }
  }
  const count = Math.floor(energy.length * LOUD_SHARE);
  return Array.from(energy.keys())
    .sort((a, b) => energy[b]! - energy[a]!)
    .slice(0, count);
}

/** x [b, s, width] turned block by block: the part of a change of basis that no weight can absorb. */
function rotateBlocks(g: Graph, x: Value, turn: Rotation): Value {
  const { width } = turn;
  const matrix = g.weight(`rotation.${width}`, 'f32', [width, width], () => {
    const rows = Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
    turn.apply(rows);
    return rows;
  });
  const blocks = Number(x.dims.at(-1)) / width;
  const cut = ops.reshape(g, x, [0, 0, blocks, width], [...x.dims.slice(0, 2), blocks, width]);
  return ops.reshape(g, ops.matmul(g, cut, matrix, 'rotated'), [0, 0, blocks * width], x.dims);
}

/** Names of the cache outputs; the inputs are `cache.<i>.key` and `cache.<i>.value`. */
const presentNames = (i: number) => ({ key: `present.${i}.key`, value: `present.${i}.value` });

export const llama: Family = {
  modelType: 'llama',
  linears,
  otherModules: (config) => [
    EMBEDDING,
    HEAD,
    FINAL_NORM,
    ...Array.from({ length: config.num_hidden_layers }, (_, i) => [
      `${layer(i)}.input_layernorm`,
      `${layer(i)}.post_attention_layernorm`,
    ]).flat(),
  ],
  build,
};
