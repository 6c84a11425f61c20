/** Logits of a base, read straight from the executor: all positions of a prompt, with or without adapters. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Executor } from '../../../gpu-worker/engine/executor.ts';
import { KvPool } from '../../../gpu-worker/engine/kv-pool.ts';
import { pagesFor } from '../../../gpu-worker/engine/pages.ts';
import type { PrecisionName } from '../../../gpu-worker/models/precision.ts';
import { precisionOf } from '../../../gpu-worker/models/precisions.ts';
import { prepareModel } from '../../../gpu-worker/models/prepare.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { encodeBF16Exact, encodeF16Exact } from '../../../shared/adapters/floats.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../../../shared/adapters/safetensors.ts';

/** Tiny models made by transformers, one for each family or variant. */
export const FAMILIES = new URL('../../fixtures/families', import.meta.url).pathname;

/** Logits [vocab] after the last `wanted` tokens of `ids`, of one sequence of which `past` tokens ran before. */
type RunTokens = (ids: readonly number[], past: number, wanted: number) => Float32Array[];

const CONTEXT = 64;

async function withModel<T>(folder: string, precision: PrecisionName, use: (run: RunTokens) => T): Promise<T> {
  const cache = mkdtempSync(join(tmpdir(), 'switchyard-logits-'));
  try {
    const checkpoint = await openCheckpoint(folder);
    const model = prepareModel(checkpoint, precisionOf(precision), cache);
    const pages = Array.from({ length: pagesFor(CONTEXT) }, (_, i) => i);
    using executor = new Executor(model, new KvPool(checkpoint.config, model.storage, pages.length), 1);
    return use((tokens, past, wanted) =>
      executor.run([{ tokens, past, pages: pages.slice(0, pagesFor(past + tokens.length)), adapters: [], wanted }]),
    );
  } finally {
    rmSync(cache, { recursive: true });
  }
}

/** Runs each prompt by itself; returns logits [prompt][tokens · vocab]. */
export const logitsOf = (folder: string, prompts: readonly (readonly number[])[], precision: PrecisionName = 'fp32') =>
  withModel(folder, precision, (run) =>
    prompts.map((ids) => {
      const rows = run(ids, 0, ids.length);
      return Float32Array.from(rows.flatMap((row) => [...row]));
    }),
  );

/** The most likely `tokens` after each prompt, one at a time. */
export const greedyOf = (folder: string, prompts: readonly (readonly number[])[], tokens: number) =>
  withModel(folder, 'fp32', (run) =>
    prompts.map((prompt) => {
      const answer: number[] = [];
      for (let next: readonly number[] = prompt, past = 0; answer.length < tokens; past += next.length, next = answer.slice(-1)) {
        const [logits] = run(next, past, 1);
        answer.push(logits!.indexOf(Math.max(...logits!)));
      }
      return answer;
    }),
  );

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
