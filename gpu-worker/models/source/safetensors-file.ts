/**
 * Header of a safetensors file (https://github.com/huggingface/safetensors#format) and its tensors
 * read by range: a checkpoint is far larger than an adapter and is never held whole.
 */
import { z } from 'zod';
import { BYTES_PER_FLOAT, decodeFloats } from '../../../shared/adapters/floats.ts';
import { Failure } from '../../../shared/errors.ts';
import { SourceFile } from './file.ts';

const MAX_HEADER_BYTES = 100 << 20;

const dimension = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const Entry = z.strictObject({
  dtype: z.enum(['F32', 'F16', 'BF16']),
  shape: z.array(dimension).max(8),
  data_offsets: z.tuple([dimension, dimension]),
});

export interface StoredTensor {
  shape: number[];
  read(): Float32Array<ArrayBuffer>;
}

export async function openSafetensors(path: string): Promise<{ file: SourceFile; tensors: Map<string, StoredTensor> }> {
  const file = await SourceFile.open(path);
  const refuse = (why: string, options?: ErrorOptions) =>
    new Failure({ kind: 'invalid_request', message: `open base ${path}: ${why}` }, options);
  if (file.bytes < 8) throw refuse(`expected a safetensors header, the file has ${file.bytes} bytes`);
  const headerBytes = new DataView(file.read(0, 8).buffer).getBigUint64(0, true);
  if (headerBytes > MAX_HEADER_BYTES || Number(headerBytes) + 8 > file.bytes) {
    throw refuse(`the header says it takes ${headerBytes} bytes, the file has ${file.bytes}`);
  }
  const start = 8 + Number(headerBytes);
  let entries: [string, unknown][];
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(file.read(8, Number(headerBytes)));
    entries = Object.entries(z.record(z.string(), z.unknown()).parse(JSON.parse(text)));
  } catch (cause) {
    throw refuse('the safetensors header is not a JSON object', { cause });
  }

  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of entries) {
    if (name === '__metadata__') continue;
    const parsed = Entry.safeParse(value);
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!;
      throw refuse(`tensor ${name}: ${issue.path.join('.')}: ${issue.message}, got ${JSON.stringify(value)}`);
    }
    const { dtype, shape, data_offsets } = parsed.data;
    const [from, to] = data_offsets;
    const bytes = shape.reduce((product, n) => product * n, BYTES_PER_FLOAT[dtype]);
    if (to - from !== bytes) throw refuse(`tensor ${name}: expected ${bytes} bytes for ${dtype} [${shape.join(', ')}], got ${to - from}`);
    if (start + to > file.bytes) throw refuse(`tensor ${name}: expected bytes up to ${start + to}, the file has ${file.bytes}`);
    tensors.set(name, { shape, read: () => decodeFloats(dtype, file.read(start + from, bytes)) });
  }
  return { file, tensors };
}
