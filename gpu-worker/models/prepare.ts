/**
 * From checkpoint to files that the runtime opens: the served weights, written once for each base revision and
 * precision, and the models that refer to them.
 *
 *   <cache>/<revision>-<precision>-<version>/{weights.bin, weights.json, bare.onnx, adapted.onnx}
 *
 * `bare` serves steps in which no sequence has an adapter, `adapted` all others; both share the weights.
 * The folder appears by rename when it is whole, and may be deleted while nothing runs.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { Graph, type Value } from '../graph/ir.ts';
import { toOnnx, type WeightLocation } from '../graph/onnx.ts';
import * as ops from '../graph/ops.ts';
import { asBytes } from '../tensor/dtype.ts';
import { addAdapterPath } from './adapter-path.ts';
import type { ApplyLinears } from './family.ts';
import { jointName, jointWidth, type LinearSpec, servedBias } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import { familyOf } from './registry.ts';
import type { Checkpoint } from './source/checkpoint.ts';
import type { ModelConfig } from './source/config.ts';

/** Raised when the graph changes in a way that makes cached weights wrong. */
const CACHE_VERSION = 2;
const WEIGHTS = 'weights.bin';
const ALIGNMENT = 4096;

export type GraphName = 'bare' | 'adapted';

export interface PreparedModel {
  config: ModelConfig;
  linears: LinearSpec[];
  graphs: Record<GraphName, { file: string; inputs: string[]; outputs: string[] }>;
  weightBytes: number;
}

export const cacheInput = (layer: number) => ({ key: `cache.${layer}.key`, value: `cache.${layer}.value` });

/** Input and output names in the order in which the engine binds them. */
export const NAMES = { ids: 'input_ids', lastIndex: 'last_index', total: 'total', select: 'select', logits: 'logits' } as const;

const Locations = z.record(z.string(), z.strictObject({ offset: z.number(), length: z.number() }));

export function prepareModel(checkpoint: Checkpoint, precision: Precision, cacheFolder: string): PreparedModel {
  const { config } = checkpoint;
  const linears = familyOf(config).linears(config, precision, checkpoint);
  const graphs = { bare: buildGraph(checkpoint, precision, false), adapted: buildGraph(checkpoint, precision, true) };
  const folder = path.join(cacheFolder, `${checkpoint.revision.slice(0, 32)}-${precision.name}-${CACHE_VERSION}.${precision.revision}`);
  if (!existsSync(folder)) writeWeights(folder, graphs.bare);
  const locations = new Map(Object.entries(Locations.parse(JSON.parse(readFileSync(path.join(folder, 'weights.json'), 'utf8')))));
  const files = (name: GraphName) => {
    const graph = graphs[name];
    const file = path.join(folder, `${name}.onnx`);
    replaceFile(file, toOnnx(graph, { file: WEIGHTS, locations }));
    return { file, inputs: graph.inputs.map((v) => v.name), outputs: graph.outputs.map((v) => v.name) };
  };
  const weightBytes = [...locations.values()].reduce((sum, { length }) => sum + length, 0);
  return { config, linears, graphs: { bare: files('bare'), adapted: files('adapted') }, weightBytes };
}

function buildGraph(weights: WeightSource & Pick<Checkpoint, 'config'>, precision: Precision, adapted: boolean): Graph {
  const { config } = weights;
  const g = new Graph();
  const kv = ['batch', config.num_key_value_heads, 'capacity', config.head_dim];
  const inputs = {
    ids: g.input(NAMES.ids, 'i64', ['batch', 'sequence']),
    lastIndex: g.input(NAMES.lastIndex, 'i32', ['batch']),
    total: g.input(NAMES.total, 'i32', []),
    select: g.input(NAMES.select, 'i64', ['selected']),
    cache: (layer: number) => ({ key: g.input(cacheInput(layer).key, 'f32', kv), value: g.input(cacheInput(layer).value, 'f32', kv) }),
  };
  const apply: ApplyLinears = (_, x, specs) => {
    const y = precision.linear(g, x, specs, weights);
    const biased = specs.some(({ bias }) => bias) ? ops.add(g, y, jointBias(g, specs, weights), 'biased') : y;
    return adapted ? addAdapterPath(g, x, biased, specs) : biased;
  };
  const logits = familyOf(config).build(g, config, precision, weights, inputs, apply);
  g.node('Identity', [logits], [g.output({ name: NAMES.logits, dtype: 'f32', dims: ['selected', config.vocab_size] })]);
  return g;
}

/** Biases side by side, [Σ out]; zeros where a linear has none. */
function jointBias(g: Graph, specs: readonly LinearSpec[], weights: WeightSource): Value {
  const width = jointWidth(specs);
  return g.weight(`${jointName(specs)}.bias`, 'f32', [width], () => {
    const joint = new Float32Array(width);
    let at = 0;
    for (const spec of specs) {
      if (spec.bias) joint.set(servedBias(weights.tensor(`${spec.path}.bias`), spec), at);
      at += spec.out;
    }
    return joint;
  });
}

function writeWeights(folder: string, graph: Graph): void {
  const partial = `${folder}.partial-${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const locations: Record<string, WeightLocation> = {};
  const file = openSync(path.join(partial, WEIGHTS), 'w');
  try {
    let offset = 0;
    for (const [name, weight] of graph.weights) {
      const bytes = asBytes(weight.data());
      for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, offset + done);
      locations[name] = { offset, length: bytes.length };
      offset += Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT;
    }
  } finally {
    closeSync(file);
  }
  writeFileSync(path.join(partial, 'weights.json'), JSON.stringify(locations));
  try {
    renameSync(partial, folder);
  } catch (cause) {
    // Another process finished the same folder first: its content is the same.
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(folder)) throw cause;
  }
}

function replaceFile(file: string, bytes: Uint8Array): void {
  if (existsSync(file) && digest(readFileSync(file)) === digest(bytes)) return;
  writeFileSync(`${file}.${process.pid}`, bytes);
  renameSync(`${file}.${process.pid}`, file);
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
