/**
 * From checkpoint to files that the runtime opens: the served weights, written once for each base revision and
 * precision, and the model that refers to them.
 *
 *   <cache>/<revision>-<precision>-<version>/{weights.bin, weights.json, model.onnx}
 *
 * The folder appears by rename when it is whole, and may be deleted while nothing runs.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { Graph } from '../graph/ir.ts';
import { PAGE_TOKENS } from '../graph/kernels.ts';
import { toOnnx, type WeightLocation } from '../graph/onnx.ts';
import { asBytes } from '../tensor/dtype.ts';
import { applyLinears } from './apply-linears.ts';
import { outputWidth } from './family.ts';
import type { LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import { familyOf } from './registry.ts';
import type { Checkpoint } from './source/checkpoint.ts';
import type { ModelConfig } from './source/config.ts';

/** Raised when the graph changes in a way that makes cached weights wrong. */
const CACHE_VERSION = 2;
const WEIGHTS = 'weights.bin';
const ALIGNMENT = 4096;

export interface PreparedModel {
  config: ModelConfig;
  linears: LinearSpec[];
  graph: { file: string; inputs: string[]; outputs: string[] };
  /** Element type of keys and values. */
  storage: Precision['storage'];
  /** Numbers that come for each wanted token. */
  width: number;
  weightBytes: number;
}

/** The graph's inputs and its output; what they hold is told in family.ts and graph/kernels.ts. Encoders alone have positions. */
export const NAMES = {
  ids: 'ids',
  rows: 'rows',
  pages: 'pages',
  adapters: 'adapters',
  select: 'select',
  positions: 'positions',
  output: 'output',
} as const;

export const poolInput = (i: number): string => `pool.${i}`;

const Locations = z.record(z.string(), z.strictObject({ offset: z.number(), length: z.number() }));

export function prepareModel(checkpoint: Checkpoint, precision: Precision, cacheFolder: string): PreparedModel {
  const { config } = checkpoint;
  const linears = familyOf(config).linears(config, precision, checkpoint);
  const graph = buildGraph(checkpoint, precision, linears);
  const folder = path.join(cacheFolder, `${checkpoint.revision.slice(0, 32)}-${precision.name}-${CACHE_VERSION}.${precision.revision}`);
  if (!existsSync(folder)) writeWeights(folder, graph);
  const locations = new Map(Object.entries(Locations.parse(JSON.parse(readFileSync(path.join(folder, 'weights.json'), 'utf8')))));
  const file = path.join(folder, 'model.onnx');
  replaceFile(file, toOnnx(graph, { file: WEIGHTS, locations }));
  return {
    config,
    linears,
    graph: { file, inputs: graph.inputs.map((v) => v.name), outputs: graph.outputs.map((v) => v.name) },
    storage: precision.storage,
    width: outputWidth(familyOf(config), config),
    weightBytes: [...locations.values()].reduce((sum, { length }) => sum + length, 0),
  };
}

function buildGraph(weights: WeightSource & Pick<Checkpoint, 'config'>, precision: Precision, linears: readonly LinearSpec[]): Graph {
  const { config } = weights;
  const g = new Graph();
  const pageElements = 2 * config.num_key_value_heads * PAGE_TOKENS * config.head_dim;
  const rows = g.input(NAMES.rows, 'i32', ['rows', 3]);
  const inputs = {
    ids: g.input(NAMES.ids, 'i64', ['tokens']),
    rows,
    adapters: g.input(NAMES.adapters, 'i64', ['rows', 'row_adapters', 2]),
    pages: g.input(NAMES.pages, 'i32', ['rows', 'row_pages']),
    select: g.input(NAMES.select, 'i64', ['selected']),
    positions: () => g.input(NAMES.positions, 'i64', ['tokens']),
    pool: (i: number) => g.input(poolInput(i), precision.storage, ['pool_pages', pageElements]),
  };
  const apply = applyLinears(precision, weights, linears, inputs);
  const family = familyOf(config);
  const output = family.build(g, config, precision, weights, inputs, apply);
  g.node('Identity', [output], [g.output({ name: NAMES.output, dtype: 'f32', dims: ['selected', outputWidth(family, config)] })]);
  return g;
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
