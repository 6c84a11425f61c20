/**
 * Header of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Parsing is
 * @huggingface/gguf's; it reads past a file's end as zeros and takes any extent for granted, so
 * sizes are checked before it and every tensor's place in the file after it.
 */
import { gguf } from '@huggingface/gguf';
import { Failure } from '../../../shared/errors.ts';
import type { SourceFile } from './file.ts';
import { BLOCK_FORMATS, type BlockFormat } from './gguf-blocks.ts';

export interface GgufTensor {
  /** Outermost dimension first, as in Hugging Face; GGUF lists the innermost first. */
  shape: number[];
  elements: number;
  format: BlockFormat;
  offset: number;
  bytes: number;
}

export interface GgufHeader {
  metadata: Readonly<Record<string, unknown>>;
  tensors: Map<string, GgufTensor>;
}

/** The least a key-value pair and a tensor entry take: an empty name and a one-byte value; an empty name without dimensions. */
const MIN_PAIR_BYTES = 13;
const MIN_TENSOR_BYTES = 24;
const MAX_TENSORS = 100_000;

/** Throws Failure unless the fixed part announces no more than the file can hold. */
function checkPreamble(file: SourceFile, refuse: (why: string) => Failure): void {
  if (file.bytes < 24) throw refuse(`expected a header of at least 24 bytes, the file has ${file.bytes}`);
  const view = new DataView(file.read(0, 24).buffer);
  if (view.getUint32(0, false) !== 0x47475546) throw refuse('it does not start with "GGUF"');
  const version = view.getUint32(4, true);
  if (version !== 2 && version !== 3) throw refuse(`expected version 2 or 3, little-endian, got ${version}`);
  const tensors = view.getBigUint64(8, true);
  const pairs = view.getBigUint64(16, true);
  if (tensors > MAX_TENSORS || tensors * BigInt(MIN_TENSOR_BYTES) + pairs * BigInt(MIN_PAIR_BYTES) > file.bytes) {
    throw refuse(`${tensors} tensors and ${pairs} metadata pairs do not fit in ${file.bytes} bytes`);
  }
}

export async function readGgufHeader(file: SourceFile): Promise<GgufHeader> {
  const refuse = (why: string, options?: ErrorOptions) =>
    new Failure({ kind: 'invalid_request', message: `open base ${file.path}: not a valid GGUF file: ${why}` }, options);
  checkPreamble(file, refuse);
  const header = await gguf(file.path, { allowLocalFile: true }).catch((cause: unknown) => {
    throw refuse(cause instanceof Error ? cause.message : String(cause), { cause });
  });
  const start = Number(header.tensorDataOffset);
  if (start > file.bytes || start < header.tensorInfoByteRange[1])
    throw refuse(`the header ends at ${start}, the file has ${file.bytes} bytes`);

  const tensors = new Map<string, GgufTensor>();
  for (const info of header.tensorInfos) {
    const format = BLOCK_FORMATS.get(info.dtype);
    if (!format) {
      const known = [...BLOCK_FORMATS.values()].map((f) => f.name).join(', ');
      const message = `open base ${file.path}: tensor ${info.name}: quantisation type ${info.dtype} is not supported (supported: ${known})`;
      throw new Failure({ kind: 'unsupported', message });
    }
    const shape = info.shape.map(Number).reverse();
    // Dimensions are below 2^32 each: a product that is no longer exact is far beyond any file.
    const elements = shape.reduce((product, n) => product * n, 1);
    const row = shape.at(-1) ?? 0;
    if (elements < 1 || elements > Number.MAX_SAFE_INTEGER || row % format.elements !== 0) {
      throw refuse(`tensor ${info.name}: shape [${shape.join(', ')}] is not whole blocks of ${format.elements}`);
    }
    const bytes = (elements / format.elements) * format.bytes;
    const offset = start + Number(info.offset);
    if (offset + bytes > file.bytes) {
      throw refuse(`tensor ${info.name}: expected ${bytes} bytes at ${offset}, the file has ${file.bytes}`);
    }
    if (tensors.has(info.name)) throw refuse(`tensor ${info.name} is listed twice`);
    tensors.set(info.name, { shape, elements, format, offset, bytes });
  }
  return { metadata: { ...header.metadata }, tensors };
}
