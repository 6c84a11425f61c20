/** A native tensor over memory of ours: no copy in, no copy out. */
import { bytesPerElement, type DType, elementCount, onnxCode, type TypedArray } from '../tensor/dtype.ts';
import { address, cpuMemory, create, type Pointer, release } from './library.ts';

export class Tensor implements Disposable {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly number[];
  /** The memory; kept referenced as long as the native object may read or write it. */
  readonly data: TypedArray;
  readonly #pointer: Pointer;
  #address: bigint;

  /** `data` holds exactly the elements of `dims`; it may be a slice of a larger buffer. */
  constructor(name: string, dtype: DType, dims: readonly number[], data: TypedArray) {
    const expected = elementCount(dims) * bytesPerElement[dtype];
    if (data.byteLength !== expected)
      throw new RangeError(`tensor ${name} ${dtype}[${dims.join(', ')}]: expected ${expected} bytes, got ${data.byteLength}`);
    this.name = name;
    this.dtype = dtype;
    this.dims = dims;
    this.data = data;
    const shape = BigInt64Array.from(dims, BigInt);
    this.#pointer = create(
      'CreateTensorWithDataAsOrtValue',
      `tensor ${name}`,
      cpuMemory(),
      data,
      data.byteLength,
      shape,
      dims.length,
      onnxCode[dtype],
    );
    this.#address = address(this.#pointer);
  }

  /** Address of the native object. Throws once disposed. */
  get address(): bigint {
    if (this.#address === 0n) throw new Error(`tensor ${this.name} was used after it was released`);
    return this.#address;
  }

  [Symbol.dispose](): void {
    if (this.#address === 0n) return;
    this.#address = 0n;
    release('ReleaseValue', this.#pointer);
  }
}
