/**
 * The sealed form of an adapter, the only one that is stored and served: plain low-rank factors by
 * module with the scale folded into B, as safetensors with the tensors `<module>.A` [r, in] and
 * `<module>.B` [out, r]. It is canonical: equal values give equal bytes, hence an equal digest,
 * however they were packed when they were uploaded. Each tensor has the narrowest float format
 * that holds it exactly.
 */
import { refusal } from './findings.ts';
import { decodeFloats, encodeBF16Exact, encodeF16Exact } from './floats.ts';
import { readSafetensors, type Tensor, writeSafetensors } from './safetensors.ts';

const FORMAT = 'switchyard-sealed-1';
const FILE = 'sealed adapter';
const MAX_TENSORS = 1 << 20;

export interface SealedTarget {
  /** Row-major [rank, in]. */
  A: Float32Array;
  /** Row-major [out, rank], scale included. */
  B: Float32Array;
  rank: number;
}

export interface SealedAdapter {
  baseRevision: string;
  /** Largest rank over the targets. */
  rank: number;
  targets: ReadonlyMap<string, SealedTarget>;
}

export function writeSealed(adapter: SealedAdapter): Uint8Array<ArrayBuffer> {
  const tensors = new Map<string, Tensor>();
  for (const [module, { A, B, rank }] of adapter.targets) {
    tensors.set(`${module}.A`, narrowest(A, [rank, A.length / rank]));
    tensors.set(`${module}.B`, narrowest(B, [B.length / rank, rank]));
  }
  return writeSafetensors(
    tensors,
    new Map([
      ['format', FORMAT],
      ['base_revision', adapter.baseRevision],
    ]),
  );
}

function narrowest(values: Float32Array, shape: number[]): Tensor {
  const half = encodeF16Exact(values);
  if (half) return { dtype: 'F16', shape, data: new Uint8Array(half.buffer) };
  const brain = encodeBF16Exact(values);
  if (brain) return { dtype: 'BF16', shape, data: new Uint8Array(brain.buffer) };
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** Throws a refusal unless the bytes are a sealed adapter of this format, complete and consistent. */
export function readSealed(bytes: Uint8Array): SealedAdapter {
  const { tensors, metadata } = readSafetensors(bytes, FILE, MAX_TENSORS);
  const format = metadata.get('format');
  const baseRevision = metadata.get('base_revision');
  if (format !== FORMAT || baseRevision === undefined) {
    throw refusal('container', `${FILE}: not of the expected format`, {
      expected: `${FORMAT} with a base_revision`,
      got: format ?? 'no format',
    });
  }
  const targets = new Map<string, SealedTarget>();
  let rank = 0;
  for (const [name, a] of tensors) {
    if (name.endsWith('.B') && tensors.has(`${name.slice(0, -2)}.A`)) continue;
    const module = name.slice(0, -2);
    const b = tensors.get(`${module}.B`);
    if (!name.endsWith('.A') || !b) throw refusal('tensors', `${FILE}: a tensor without its pair`, { tensor: name });
    const targetRank = a.shape[0];
    if (!targetRank || a.shape.length !== 2 || b.shape.length !== 2 || b.shape[1] !== targetRank) {
      throw refusal('shapes', `${FILE}: shapes [${a.shape}] and [${b.shape}] are no pair of factors`, { tensor: name });
    }
    rank = Math.max(rank, targetRank);
    targets.set(module, { A: floats(name, a), B: floats(`${module}.B`, b), rank: targetRank });
  }
  return { baseRevision, rank, targets };
}

function floats(name: string, { dtype, data }: Tensor): Float32Array {
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return decodeFloats(dtype, data);
  throw refusal('tensors', `${FILE}: ${dtype} is not a format of factors`, { tensor: name });
}
