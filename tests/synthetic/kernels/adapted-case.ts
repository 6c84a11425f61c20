/** Linears with random adapters for random rows: as inputs of a run, and as the formula in float64. */
import fc from 'fast-check';
import type { Graph, Value } from '../../../gpu-worker/graph/ir.ts';
import type { Finish } from '../../../gpu-worker/graph/kernels.ts';
import { address } from '../../../gpu-worker/runtime/library.ts';
import { noise } from '../engine/support.ts';
import type { Runner } from './runner.ts';

const ENTRY_BYTES = 32;
const KIND = { absent: 0, f32: 1, f16: 2 } as const;

interface Module {
  rank: number;
  kind: keyof typeof KIND;
}

export interface Shape {
  in: number;
  widths: number[];
  /** Modules of each adapter, by linear. */
  adapters: Module[][];
  /** Tokens of each row, and its adapters with their weights. */
  rows: { tokens: number; uses: { adapter: number; weight: number }[] }[];
  scaled: boolean;
  biased: boolean;
}

const module = fc.record({ rank: fc.integer({ min: 1, max: 21 }), kind: fc.constantFrom('absent', 'f32', 'f16') } as const);
export const shape: fc.Arbitrary<Shape> = fc.integer({ min: 1, max: 3 }).chain((linears) =>
  fc.record({
    in: fc.integer({ min: 1, max: 90 }),
    widths: fc.array(fc.integer({ min: 1, max: 150 }), { minLength: linears, maxLength: linears }),
    adapters: fc.array(fc.array(module, { minLength: linears, maxLength: linears }), { minLength: 1, maxLength: 12 }),
    rows: fc.array(
      fc.record({
        tokens: fc.oneof(fc.constant(1), fc.integer({ min: 0, max: 70 })),
        uses: fc.array(fc.record({ adapter: fc.nat(11), weight: fc.constantFrom(1, 1, 0.5, -2) }), { maxLength: 2 }),
      }),
      { minLength: 1, maxLength: 20 },
    ),
    scaled: fc.boolean(),
    biased: fc.boolean(),
  }),
);

/** An adapter as the operator reads it: a table of addresses over factors that are kept referenced. */
class Adapter {
  readonly factors: ({ A: Float32Array; B: Float32Array; scale: number; rank: number } | null)[] = [];
  readonly table: Uint8Array;
  readonly keep: (Float32Array | Float16Array)[] = [];

  constructor(modules: readonly Module[], { in: width, widths }: Shape, seed: number) {
    this.table = new Uint8Array(modules.length * ENTRY_BYTES);
    const view = new DataView(this.table.buffer);
    modules.forEach(({ rank, kind }, i) => {
      if (kind === 'absent') {
        this.factors.push(null);
        return;
      }
      const Elements = kind === 'f32' ? Float32Array : Float16Array;
      const [A, B] = [Elements.from(noise(rank * width, seed + i)), Elements.from(noise(rank * widths[i]!, seed + i + 50))];
      const scale = 0.25 * (i + 1);
      view.setBigUint64(i * ENTRY_BYTES, address(A), true);
      view.setBigUint64(i * ENTRY_BYTES + 8, address(B), true);
      view.setFloat32(i * ENTRY_BYTES + 16, scale, true);
      view.setInt32(i * ENTRY_BYTES + 20, rank, true);
      view.setInt32(i * ENTRY_BYTES + 24, KIND[kind], true);
      this.keep.push(A, B);
      this.factors.push({ A: Float32Array.from(A), B: Float32Array.from(B), scale, rank });
    });
  }
}

const SLOTS = 2;
const bitsOf = (weight: number): bigint => BigInt(new Uint32Array(Float32Array.of(weight).buffer)[0]!);

export class Case {
  readonly shape: Shape;
  readonly width: number;
  readonly adapters: Adapter[];
  readonly tokens: number;
  readonly y: Float32Array;
  readonly x: Float32Array;
  readonly scale: Float32Array;
  readonly bias: Float32Array;

  constructor(shape: Shape) {
    this.shape = shape;
    this.width = shape.widths.reduce((a, b) => a + b, 0);
    this.adapters = shape.adapters.map((modules, i) => new Adapter(modules, shape, 100 * i + 7));
    this.tokens = shape.rows.reduce((sum, { tokens }) => sum + tokens, 0);
    this.y = noise(this.tokens * this.width, 1);
    this.x = noise(this.tokens * shape.in, 2);
    this.scale = noise(this.tokens, 3);
    this.bias = noise(this.width, 4);
  }

  usesOf(row: number): { adapter: Adapter; weight: number }[] {
    return this.shape.rows[row]!.uses.map(({ adapter, weight }) => ({ adapter: this.adapters[adapter % this.adapters.length]!, weight }));
  }

  /** The inputs that linears with adapters have, and the graph's `out` made of them. */
  build(g: Graph, linear: (made: { y: Value; x: Value; rowScale: Value | null; finish: Finish }) => Value): void {
    const { widths, scaled, biased } = this.shape;
    const y = g.input('y', 'f32', ['tokens', this.width]);
    const x = g.input('x', 'f32', ['tokens', this.shape.in]);
    const adapted = { rows: g.input('rows', 'i32', ['rows', 3]), adapters: g.input('adapters', 'i64', ['rows', 'slots', 2]) };
    const rowScale = scaled ? g.input('scale', 'f32', ['tokens', 1]) : null;
    const bias = biased ? g.input('bias', 'f32', [this.width]) : null;
    const linears = widths.map((out, number) => ({ module: number, out }));
    const out = linear({ y, x, rowScale, finish: { linears, adapted, bias } });
    g.node('Identity', [out], [g.output({ ...out, name: 'out' })]);
  }

  /** Runs tokens from…to, which lie in the rows given with as many of their tokens. */
  run(runner: Runner, from: number, to: number, parts: { row: number; tokens: number }[]): Float32Array {
    const [count, slots] = [parts.length, parts.some(({ row }) => this.usesOf(row).length > 0) ? SLOTS : 0];
    const adapters = new BigInt64Array(count * slots * 2);
    const rows = new Int32Array(count * 3);
    let at = 0;
    for (const [i, { row, tokens }] of parts.entries()) {
      rows.set([at, tokens, 0], i * 3);
      at += tokens;
      for (const [slot, { adapter, weight }] of this.usesOf(row).entries())
        adapters.set([address(adapter.table), bitsOf(weight)], (i * slots + slot) * 2);
    }
    const n = to - from;
    const cut = (data: Float32Array, width: number) => data.slice(from * width, to * width);
    return runner.run(
      {
        y: { dtype: 'f32', dims: [n, this.width], data: cut(this.y, this.width) },
        x: { dtype: 'f32', dims: [n, this.shape.in], data: cut(this.x, this.shape.in) },
        rows: { dtype: 'i32', dims: [count, 3], data: rows },
        adapters: { dtype: 'i64', dims: [count, slots, 2], data: adapters },
        ...(this.shape.scaled ? { scale: { dtype: 'f32', dims: [n, 1], data: cut(this.scale, 1) } as const } : {}),
        ...(this.shape.biased ? { bias: { dtype: 'f32', dims: [this.width], data: this.bias } as const } : {}),
      },
      { out: { dtype: 'f32', dims: [n, this.width] } },
    ).out as Float32Array;
  }

  whole(runner: Runner): Float32Array {
    return this.run(
      runner,
      0,
      this.tokens,
      this.shape.rows.map(({ tokens }, row) => ({ row, tokens })),
    );
  }

  /** The formula, with the sum of the magnitudes of its terms. */
  expected(token: number, row: number): { value: Float64Array; size: Float64Array } {
    const { in: width, widths, scaled, biased } = this.shape;
    const value = Float64Array.from(
      { length: this.width },
      (_, c) => this.y[token * this.width + c]! * (scaled ? this.scale[token]! : 1) + (biased ? this.bias[c]! : 0),
    );
    const size = value.map((v) => Math.abs(v) + 1);
    for (const { adapter, weight } of this.usesOf(row)) {
      let column = 0;
      for (const [l, factors] of adapter.factors.entries()) {
        for (let r = 0; factors && r < factors.rank; r++) {
          let [t, sum] = [0, 0];
          for (let i = 0; i < width; i++) {
            const term = this.x[token * width + i]! * factors.A[r * width + i]!;
            t += term;
            sum += Math.abs(term);
          }
          for (let c = 0; c < widths[l]!; c++) {
            const b = weight * factors.scale * factors.B[r * widths[l]! + c]!;
            value[column + c]! += t * b;
            size[column + c]! += sum * Math.abs(b);
          }
        }
        column += widths[l]!;
      }
    }
    return { value, size };
  }
}
