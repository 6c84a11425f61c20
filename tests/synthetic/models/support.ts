/** Logits of a base, read straight from the executor: all positions of a prompt, with or without adapters. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { Executor } from '../../../gpu-worker/engine/executor.ts';
import { KvPool } from '../../../gpu-worker/engine/kv-pool.ts';
import type { RowAdapter } from '../../../gpu-worker/engine/model.ts';
import { pagesFor } from '../../../gpu-worker/engine/pages.ts';
import { Residents } from '../../../gpu-worker/engine/residents.ts';
import { buildImage } from '../../../gpu-worker/models/adapter-image.ts';
import { imageForm } from '../../../gpu-worker/models/image-form.ts';
import type { PrecisionName } from '../../../gpu-worker/models/precision.ts';
import { precisionOf } from '../../../gpu-worker/models/precisions.ts';
import { prepareModel } from '../../../gpu-worker/models/prepare.ts';
import { type Checkpoint, openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { encodeBF16Exact, encodeF16Exact } from '../../../shared/adapters/floats.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../../../shared/adapters/safetensors.ts';
import { writeSealed } from '../../../shared/adapters/sealed.ts';
import { noise } from '../engine/support.ts';

/** Tiny models made by transformers, one for each family or variant. */
export const FAMILIES = new URL('../../fixtures/families', import.meta.url).pathname;

/** Networks whose output are hidden states. */
export const ENCODERS = new URL('../../fixtures/encoders', import.meta.url).pathname;

const CONTEXT = 64;

export interface OpenedModel extends Disposable {
  checkpoint: Checkpoint;
  executor: Executor;
  /** Pages for sequence i, enough for a context of 64 tokens. */
  pages(i: number): number[];
  /** Makes a sealed adapter resident: what a row that uses it says. */
  adapter(digest: string, sealed: Uint8Array): Promise<RowAdapter>;
}

/** A base with memory for `sequences` short sequences. */
export async function openModel(folder: string, precisionName: PrecisionName, sequences = 1): Promise<OpenedModel> {
  const cache = mkdtempSync(join(tmpdir(), 'switchyard-model-'));
  const checkpoint = await openCheckpoint(folder);
  const precision = precisionOf(precisionName);
  const model = prepareModel(checkpoint, precision, cache);
  const each = pagesFor(CONTEXT);
  const executor = new Executor(model, new KvPool(checkpoint.config, model.storage, each * sequences), 1);
  const residents = new Residents();
  return {
    checkpoint,
    executor,
    pages: (i) => Array.from({ length: each }, (_, page) => i * each + page),
    async adapter(digest, sealed) {
      residents.add(digest, await buildImage(digest, sealed, imageForm(checkpoint, precision)));
      return { table: residents.table(digest), weight: 1 };
    },
    [Symbol.dispose]() {
      executor[Symbol.dispose]();
      rmSync(cache, { recursive: true });
    },
  };
}

/** Logits [tokens · vocab] of each prompt, run by itself. */
export function runPrompts(
  { executor, pages }: OpenedModel,
  prompts: readonly (readonly number[])[],
  adapters: readonly RowAdapter[] = [],
): Float32Array[] {
  return prompts.map((tokens) => joined(executor.run([{ tokens, past: 0, pages: pages(0), adapters, wanted: tokens.length }])));
}

/** Rows of logits one after another, in memory of their own. */
export function joined(rows: readonly Float32Array[]): Float32Array {
  const width = rows[0]?.length ?? 0;
  const all = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) all.set(row, i * width);
  return all;
}

/** Logits [tokens · vocab] of each prompt on a base opened for it. */
export async function logitsOf(folder: string, prompts: readonly (readonly number[])[], precision: PrecisionName = 'fp32') {
  using model = await openModel(folder, precision);
  return runPrompts(model, prompts);
}

/** The most likely `tokens` after each prompt, one at a time. */
export async function greedyOf(folder: string, prompts: readonly (readonly number[])[], tokens: number): Promise<number[][]> {
  using model = await openModel(folder, 'fp32');
  return prompts.map((prompt) => {
    const answer: number[] = [];
    for (let next: readonly number[] = prompt, past = 0; answer.length < tokens; past += next.length, next = answer.slice(-1)) {
      const [logits] = model.executor.run([{ tokens: next, past, pages: model.pages(0), adapters: [], wanted: 1 }]);
      answer.push(logits!.indexOf(Math.max(...logits!)));
    }
    return answer;
  });
}

/** Random factors of rank 3 on every linear, the same for a seed, and the adapter they make. */
export function adapterOnAll(base: Checkpoint, seed: number) {
  const { linears, revision } = baseModules(base);
  const rank = 3;
  const targets = new Map(
    [...linears].map(([path, { in: width, out }], i) => {
      const A = noise(rank * width, 10_000 * seed + 2 * i).map((x) => x / Math.sqrt(width));
      return [path, { rank, A, B: noise(rank * out, 10_000 * seed + 2 * i + 1).map((x) => 0.3 * x) }];
    }),
  );
  const sealed = writeSealed({ baseRevision: revision, rank, targets });
  return { targets, sealed, digest: createHash('sha256').update(sealed).digest('hex') };
}

/** Rows of a [rows, tokens] tensor of token ids. */
export function promptsOf({ tensors }: Tensors, name: string): number[][] {
  const { data, shape } = tensors.get(name)!;
  const ids = Array.from(new BigInt64Array(data.slice().buffer), Number);
  const width = shape[1]!;
  return Array.from({ length: shape[0]! }, (_, row) => ids.slice(row * width, (row + 1) * width));
}

type Tensors = ReturnType<typeof readSafetensors>;

export async function tensorsOf(path: string): Promise<Tensors> {
  return readSafetensors(new Uint8Array(await readFile(path)), path);
}

export const floatsOf = ({ tensors }: Tensors, name: string): Float32Array => new Float32Array(tensors.get(name)!.data.slice().buffer);

export const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`);
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i]! - b[i]!));
  return worst;
};

export const rootMeanSquare = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values, (x) => x * x).reduce((sum, x) => sum + x, 0) / values.length);

export type Format = 'F32' | 'F16' | 'BF16';

/** Weights by name; formats other than F32 must hold every value exactly. */
export function writeWeights(
  path: string,
  weights: ReadonlyMap<string, { shape: readonly number[]; values: Float32Array }>,
  format: Format,
): void {
  const encode = { F32: (x: Float32Array) => x, F16: encodeF16Exact, BF16: encodeBF16Exact }[format];
  const tensors = new Map<string, Tensor>();
  for (const [name, { shape, values }] of weights) {
    const encoded = encode(values);
    if (!encoded) throw new Error(`${name} is not exact in ${format}`);
    tensors.set(name, { dtype: format, shape, data: new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength) });
  }
  writeFileSync(path, writeSafetensors(tensors, new Map([['format', 'pt']])));
}
