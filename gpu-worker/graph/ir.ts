/**
 * The graph: values, nodes and constants, as plain data. Model families build it through graph/ops.ts,
 * graph/onnx.ts writes it as ONNX. Names are paths ("layers.3.attn.qkv"), so that a runtime error says where.
 */
import type { DType, TypedArray } from '../tensor/dtype.ts';

/** A fixed size, or the name of one that varies from run to run. */
export type Dim = number | string;

export interface Value {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly Dim[];
}

export type Attribute = { int: number } | { ints: readonly number[] } | { float: number } | { string: string };

export interface Node {
  readonly op: string;
  /** '' is ONNX's own operator set, 'switchyard' ours (gpu-worker/kernels). */
  readonly domain: '' | 'com.microsoft' | 'switchyard';
  readonly name: string;
  /** null: an optional input left out. */
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly (Value | null)[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A weight: kept outside the model file, made by `data` only when the cached file lacks it. */
export interface Weight {
  readonly value: Value;
  readonly data: () => TypedArray;
}

export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly outputs: Value[] = [];
  /** Small constants, written into the model itself. */
  readonly constants: { value: Value; data: TypedArray }[] = [];
  readonly weights = new Map<string, Weight>();
  #scope: string[] = [];
  #taken = new Map<string, number>();
  #scalars = new Map<string, Value>();

  /** Runs `build` with `name` added to the path of everything made inside. */
  within<T>(name: string, build: () => T): T {
    this.#scope.push(name);
    try {
      return build();
    } finally {
      this.#scope.pop();
    }
  }

  /** The current path with `leaf`, made unique. */
  path(leaf: string): string {
    const base = [...this.#scope, leaf].join('.');
    const count = this.#taken.get(base) ?? 0;
    this.#taken.set(base, count + 1);
    return count === 0 ? base : `${base}~${count}`;
  }

  input(name: string, dtype: DType, dims: readonly Dim[]): Value {
    const value = { name, dtype, dims };
    this.inputs.push(value);
    return value;
  }

  output(value: Value): Value {
    this.outputs.push(value);
    return value;
  }

  constant(leaf: string, dtype: DType, dims: readonly number[], data: TypedArray): Value {
    const value = { name: this.path(leaf), dtype, dims };
    this.constants.push({ value, data });
    return value;
  }

  /** A scalar constant; equal ones are shared. */
  scalar(dtype: 'f32' | 'u8' | 'i64', x: number): Value {
    const key = `${dtype}:${x}`;
    let value = this.#scalars.get(key);
    if (!value) {
      const data = dtype === 'f32' ? Float32Array.of(x) : dtype === 'u8' ? Uint8Array.of(x) : BigInt64Array.of(BigInt(x));
      value = { name: `const.${key}`, dtype, dims: [] };
      this.constants.push({ value, data });
      this.#scalars.set(key, value);
    }
    return value;
  }

  /** A one-dimensional i64 constant, for shapes and axes; equal ones are shared. */
  ints(values: readonly number[]): Value {
    const key = `ints:${values.join(',')}`;
    let value = this.#scalars.get(key);
    if (!value) {
      value = { name: `const.${key}`, dtype: 'i64', dims: [values.length] };
      this.constants.push({ value, data: BigInt64Array.from(values.map(BigInt)) });
      this.#scalars.set(key, value);
    }
    return value;
  }

  /** A weight under its own full name; asking twice for one name gives the same value. */
  weight(name: string, dtype: DType, dims: readonly number[], data: () => TypedArray): Value {
    const known = this.weights.get(name);
    if (known) return known.value;
    const value = { name, dtype, dims };
    this.weights.set(name, { value, data });
    return value;
  }

  node(
    op: string,
    inputs: readonly (Value | null)[],
    outputs: readonly (Value | null)[],
    attributes: Record<string, Attribute> = {},
    domain: Node['domain'] = '',
  ): void {
    this.nodes.push({ op, domain, name: outputs.find((v) => v !== null)?.name ?? op, inputs, outputs, attributes });
  }
}
