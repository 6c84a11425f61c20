/**
 * BERT (arXiv:1810.04805): an encoder. Every token sees the whole text; norms come after blocks; positions are learned.
 *
 *   ids → words + positions → norm ─┬──────────────(+)─ norm ─┬───────────────(+)─ norm ─ … → hidden states
 *                                   └ q k v → all ─ dense ┘   └ dense → gelu → dense ┘
 *
 * Keys and values are of use within a layer only, so all layers share one pool. The pooler makes no part of an embedding:
 * its weights are left out, and adapters may target it without effect.
 */
import { z } from 'zod';
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import { shapeOf } from './blocks/attention.ts';
import { rotateBlocks, runningBasis } from './blocks/rotate.ts';
import { type ApplyLinears, type Family, Pooling, type StepInputs } from './family.ts';
import { type LinearSpec, ORIGINAL } from './linear.ts';
import type { WeightSource } from './precision.ts';
import { rotation } from './rotation.ts';
import { networkFields, size } from './source/config.ts';

const Config = z.strictObject({
  ...networkFields,
  hidden_act: z.literal('gelu'),
  layer_norm_eps: z.number().positive().max(1),
  type_vocab_size: size(1024),
  position_embedding_type: z.literal('absolute'),
  is_decoder: z.literal(false),
  /** Not in config.json: sentence-transformers keeps it in a file of its own (source/sentence-modules.ts). */
  pooling: Pooling,
});
type Config = z.infer<typeof Config>;

const TABLES = { word: 'embeddings.word_embeddings', position: 'embeddings.position_embeddings', type: 'embeddings.token_type_embeddings' };
const EMBEDDING_NORM = 'embeddings.LayerNorm';
const POOLER = 'pooler.dense';

interface Layer {
  qkv: LinearSpec[];
  attended: LinearSpec;
  attentionNorm: string;
  widen: LinearSpec;
  narrow: LinearSpec;
  outputNorm: string;
}

const linear = (path: string, width: number, out: number, input = ORIGINAL, output = ORIGINAL): LinearSpec => ({
  path,
  in: width,
  out,
  bias: true,
  input,
  output,
});

/**
 * Norms after blocks keep the stream in its own basis. Under a precision that rotates, what linears read is turned while
 * running, and values head by head: the sums over positions do not mind.
 */
function basesOf(c: Config, rotated: boolean) {
  return {
    stream: runningBasis(c.hidden_size, rotated),
    values: rotated ? { gain: null, rotation: rotation(c.head_dim) } : ORIGINAL,
    units: runningBasis(c.intermediate_size, rotated),
  };
}

function layersOf(c: Config, rotated: boolean): Layer[] {
  const { hidden_size: hidden, intermediate_size: width, num_hidden_layers: layers } = c;
  const { stream, values, units } = basesOf(c, rotated);
  return Array.from({ length: layers }, (_, i) => {
    const at = `encoder.layer.${i}`;
    return {
      qkv: [
        linear(`${at}.attention.self.query`, hidden, hidden, stream),
        linear(`${at}.attention.self.key`, hidden, hidden, stream),
        linear(`${at}.attention.self.value`, hidden, hidden, stream, values),
      ],
      attended: linear(`${at}.attention.output.dense`, hidden, hidden, values),
      attentionNorm: `${at}.attention.output.LayerNorm`,
      widen: linear(`${at}.intermediate.dense`, hidden, width, stream),
      narrow: linear(`${at}.output.dense`, width, hidden, units),
      outputNorm: `${at}.output.LayerNorm`,
    };
  });
}

const linearsOf = (layers: readonly Layer[]): LinearSpec[] =>
  layers.flatMap(({ qkv, attended, widen, narrow }) => [...qkv, attended, widen, narrow]);

const normsOf = (layers: readonly Layer[]): string[] => [
  EMBEDDING_NORM,
  ...layers.flatMap(({ attentionNorm, outputNorm }) => [attentionNorm, outputNorm]),
];

function parametersOf(c: Config): Map<string, number[]> {
  const { hidden_size: hidden } = c;
  const layers = layersOf(c, false);
  const all = new Map([
    [`${TABLES.word}.weight`, [c.vocab_size, hidden]],
    [`${TABLES.position}.weight`, [c.max_position_embeddings, hidden]],
    [`${TABLES.type}.weight`, [c.type_vocab_size, hidden]],
  ]);
  for (const { path, in: width, out } of linearsOf(layers)) all.set(`${path}.weight`, [out, width]).set(`${path}.bias`, [out]);
  for (const norm of normsOf(layers)) all.set(`${norm}.weight`, [hidden]).set(`${norm}.bias`, [hidden]);
  return all;
}

/** Returns the last hidden states of the selected tokens [n, hidden]. */
function build(g: Graph, c: Config, rotated: boolean, weights: WeightSource, inputs: StepInputs, apply: ApplyLinears): Value {
  const { hidden_size: hidden, max_position_embeddings: positions } = c;
  const vector = (name: string) => g.weight(name, 'f32', [hidden], () => weights.tensor(name));
  const addNorm = (x: Value, y: Value, norm: string) =>
    ops.addLayerNorm(g, x, y, { gain: vector(`${norm}.weight`), bias: vector(`${norm}.bias`), epsilon: c.layer_norm_eps });
  const part = (name: string, x: Value, ...specs: LinearSpec[]) => g.within(name, () => apply(g, x, specs));
  const words = g.weight(TABLES.word, 'f32', [c.vocab_size, hidden], () => weights.tensor(`${TABLES.word}.weight`));
  const places = g.weight(TABLES.position, 'f32', [positions, hidden], () => placeTable(weights, hidden));
  const pool = inputs.pool(0);
  const attention = { ...shapeOf(c), scale: c.head_dim ** -0.5, causal: false, window: 0, softcap: 0, rotary: null, norms: null };

  let x = g.within('embeddings', () =>
    addNorm(ops.gatherRows(g, words, inputs.ids, 'words'), ops.gatherRows(g, places, inputs.positions(), 'places'), EMBEDDING_NORM),
  );
  const { stream, units } = basesOf(c, rotated);
  for (const [i, { qkv, attended, attentionNorm, widen, narrow, outputNorm }] of layersOf(c, rotated).entries()) {
    x = g.within(`layers.${i}.attn`, () => {
      const mixed = ops.pagedAttention(g, part('qkv', rotateBlocks(g, x, stream), ...qkv), pool, inputs, attention);
      return addNorm(part('o', mixed, attended), x, attentionNorm);
    });
    x = g.within(`layers.${i}.mlp`, () => {
      const active = ops.gelu(g, part('up', rotateBlocks(g, x, stream), widen));
      return addNorm(part('down', rotateBlocks(g, active, units), narrow), x, outputNorm);
    });
  }
  return ops.gatherRows(g, x, inputs.select, 'selected');
}

/** A text is one segment, so every token has the vector of segment 0 besides that of its position. */
function placeTable(weights: WeightSource, hidden: number): Float32Array {
  const segment = weights.tensor(`${TABLES.type}.weight`);
  return weights.tensor(`${TABLES.position}.weight`).map((x, at) => x + segment[at % hidden]!);
}

export const bert: Family = {
  modelType: 'bert',
  architecture: 'BertModel',
  config: Config,
  fields: Object.keys(Config.shape),
  defaults: {
    hidden_act: 'gelu',
    max_position_embeddings: 512,
    type_vocab_size: 2,
    layer_norm_eps: 1e-12,
    position_embedding_type: 'absolute',
    is_decoder: false,
    pooling: 'mean',
  },
  read: () => ({}),
  linears: (config, { rotated }) => {
    const c = Config.parse(config);
    return [...linearsOf(layersOf(c, rotated)), linear(POOLER, c.hidden_size, c.hidden_size)];
  },
  otherModules: (config) => [...Object.values(TABLES), ...normsOf(layersOf(Config.parse(config), false))],
  bareParameters: () => [POOLER],
  parameters: (config) => parametersOf(Config.parse(config)),
  isLeftOut: (name) => name.startsWith(`${POOLER}.`) || name === 'embeddings.position_ids',
  pools: () => 1,
  pooling: (config) => Config.parse(config).pooling,
  build: (g, config, { rotated }, weights, inputs, apply) => build(g, Config.parse(config), rotated, weights, inputs, apply),
};
