/** Small models built with the graph's own writer, and their execution. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Graph } from '../../../gpu-worker/graph/ir.ts';
import { toOnnx, type WeightLocation } from '../../../gpu-worker/graph/onnx.ts';
import { Binding, Session } from '../../../gpu-worker/runtime/session.ts';
import { Tensor } from '../../../gpu-worker/runtime/tensor.ts';
import { allocate, asBytes, type DType, elementCount, type TypedArray } from '../../../gpu-worker/tensor/dtype.ts';

export interface ModelFile extends Disposable {
  path: string;
  inputs: string[];
  outputs: string[];
}

/** Writes the model and its weights into a folder of their own. */
export function writeModel(build: (g: Graph) => void): ModelFile {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-model-'));
  const g = new Graph();
  build(g);
  const locations = new Map<string, WeightLocation>();
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const [name, weight] of g.weights) {
    const bytes = asBytes(weight.data());
    locations.set(name, { offset, length: bytes.length });
    parts.push(bytes);
    offset += bytes.length;
  }
  writeFileSync(join(folder, 'weights.bin'), Buffer.concat(parts));
  const path = join(folder, 'model.onnx');
  writeFileSync(path, toOnnx(g, { file: 'weights.bin', locations }));
  return {
    path,
    inputs: g.inputs.map((v) => v.name),
    outputs: g.outputs.map((v) => v.name),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

export interface Data {
  dtype: DType;
  dims: number[];
  data: TypedArray;
}

export const f32 = (dims: number[], values: ArrayLike<number>): Data => ({ dtype: 'f32', dims, data: Float32Array.from(values) });

/** Runs a model once; `outputs` gives the shapes that are expected. */
export function runModel<N extends string>(
  build: (g: Graph) => void,
  inputs: Record<string, Data>,
  outputs: Record<N, { dtype: DType; dims: number[] }>,
): Record<N, TypedArray> {
  using model = writeModel(build);
  using session = new Session(model.path, { threads: 1 });
  using held = new DisposableStack();
  const binding = new Binding(session, Object.keys(inputs), Object.keys(outputs));
  const results: Record<string, TypedArray> = {};
  for (const [name, { dtype, dims, data }] of Object.entries(inputs)) binding.input(name, held.use(new Tensor(name, dtype, dims, data)));
  for (const [name, { dtype, dims }] of Object.entries<{ dtype: DType; dims: number[] }>(outputs)) {
    results[name] = allocate(dtype, elementCount(dims));
    binding.output(name, held.use(new Tensor(name, dtype, dims, results[name])));
  }
  binding.run();
  return results as Record<N, TypedArray>;
}
