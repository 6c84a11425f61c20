/** Element types shared by the graph, the runtime and the loaders. Codes are ONNX's TensorProto.DataType. */

export type DType = 'f32' | 'f16' | 'u8' | 'i8' | 'i32' | 'i64';

export interface ArrayOf {
  f32: Float32Array;
  /** Bit patterns: JavaScript reads and writes them as integers. */
  f16: Uint16Array;
  u8: Uint8Array;
  i8: Int8Array;
  i32: Int32Array;
  i64: BigInt64Array;
}

export type TypedArray = ArrayOf[DType];

export const onnxCode: Record<DType, number> = { f32: 1, f16: 10, u8: 2, i8: 3, i32: 6, i64: 7 };
export const bytesPerElement: Record<DType, number> = { f32: 4, f16: 2, u8: 1, i8: 1, i32: 4, i64: 8 };

/** A zeroed array of `length` elements; memory is committed by the system as it is touched. */
export function allocate<D extends DType>(dtype: D, length: number): ArrayOf[D];
export function allocate(dtype: DType, length: number): TypedArray {
  switch (dtype) {
    case 'f32':
      return new Float32Array(length);
    case 'f16':
      return new Uint16Array(length);
    case 'u8':
      return new Uint8Array(length);
    case 'i8':
      return new Int8Array(length);
    case 'i32':
      return new Int32Array(length);
    case 'i64':
      return new BigInt64Array(length);
    default:
      return dtype satisfies never;
  }
}

export const elementCount = (dims: readonly number[]): number => dims.reduce((product, d) => product * d, 1);

export const asBytes = (data: TypedArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
