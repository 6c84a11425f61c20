/**
 * Where a step's time goes: runs the served graph under ONNX Runtime's profiler and sums up by operator.
 * The profiler adds some microseconds to each call, so read the shares, not the sums.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { HOME } from '../../cli/home.ts';
import { KvPool } from '../../gpu-worker/engine/kv-pool.ts';
import { PAGE_TOKENS } from '../../gpu-worker/graph/kernels.ts';
import { parsePrecision, precisionOf } from '../../gpu-worker/models/precisions.ts';
import { NAMES, prepareModel } from '../../gpu-worker/models/prepare.ts';
import { openCheckpoint } from '../../gpu-worker/models/source/checkpoint.ts';
import { address } from '../../gpu-worker/runtime/library.ts';
import { Binding, Session } from '../../gpu-worker/runtime/session.ts';
import { Tensor } from '../../gpu-worker/runtime/tensor.ts';
import type { DType, TypedArray } from '../../gpu-worker/tensor/dtype.ts';
import { openBase } from './support/base.ts';

const HELP = `node tests/bench/profile.ts [options]

  --adapters none|one|each  all rows without, on one, each on its own (none)
  --rows N                  sequences in the step (1)
  --tokens N                tokens of each: 1 is a decode step after 128, more a prompt (1)
  --rank N                  rank of the adapters, on all linears (16)
  --precision NAME          (auto)
  --base PATH               (the default base)
`;
const RUNS = 10;
const THREADS = 2;
const PAST = 128;

const Trace = z.array(
  z.looseObject({
    cat: z.string().optional(),
    name: z.string(),
    dur: z.number().optional(),
    args: z.looseObject({ op_name: z.string().optional() }).optional(),
  }),
);

/** What tables point to: referenced as long as the program runs. */
const kept: TypedArray[] = [];

const { values } = parseArgs({
  options: {
    adapters: { type: 'string', default: 'none' },
    rows: { type: 'string', default: '1' },
    tokens: { type: 'string', default: '1' },
    rank: { type: 'string', default: '16' },
    precision: { type: 'string', default: 'auto' },
    base: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const adapters = z.enum(['none', 'one', 'each']).parse(values.adapters);
const [rows, tokens, rank] = [values.rows, values.tokens, values.rank].map((n) => z.coerce.number().int().positive().parse(n)) as [
  number,
  number,
  number,
];

const checkpoint = await openCheckpoint((await openBase(values.base)).path);
const model = prepareModel(checkpoint, precisionOf(parsePrecision(values.precision)), join(HOME, 'cache', 'bases'));
const folder = mkdtempSync(join(tmpdir(), 'switchyard-profile-'));
try {
  {
    using session = new Session(model.graph.file, { threads: THREADS, profile: join(folder, 'trace') });
    const binding = new Binding(session, model.graph.inputs, model.graph.outputs);
    bindStep(binding);
    for (let i = 0; i < RUNS; i++) binding.run();
  }
  const [trace] = readdirSync(folder);
  report(Trace.parse(JSON.parse(readFileSync(join(folder, trace!), 'utf8'))));
} finally {
  rmSync(folder, { recursive: true });
}

function bindStep(binding: Binding): void {
  const past = tokens > 1 ? 0 : PAST;
  const { vocab_size: vocab } = model.config;
  const input = (name: string, dtype: DType, dims: number[], data: TypedArray) => binding.input(name, new Tensor(name, dtype, dims, data));
  const each = Array.from({ length: rows }, (_, row) => row);
  const pages = Math.ceil((past + tokens) / PAGE_TOKENS);
  input(
    NAMES.ids,
    'i64',
    [rows * tokens],
    BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt((i * 37) % vocab)),
  );
  input(NAMES.rows, 'i32', [rows, 3], Int32Array.from(each.flatMap((row) => [row * tokens, tokens, past])));
  input(
    NAMES.pages,
    'i32',
    [rows, pages],
    Int32Array.from({ length: rows * pages }, (_, page) => page),
  );
  input(
    NAMES.select,
    'i64',
    [rows],
    BigInt64Array.from(each, (row) => BigInt((row + 1) * tokens - 1)),
  );
  input(NAMES.adapters, 'i64', [rows, 1, 2], adapterTables());
  binding.output(NAMES.output, new Tensor(NAMES.output, 'f32', [rows, vocab], new Float32Array(rows * vocab)));
  new KvPool(model.config, model.storage, rows * pages).bind(binding);
}

/** The address of each row's table, 0 for none, and the bits of the weight 1. */
function adapterTables(): BigInt64Array {
  const one = BigInt(new Uint32Array(Float32Array.of(1).buffer)[0]!);
  const shared = adapters === 'one' ? randomTable() : 0n;
  return BigInt64Array.from(Array.from({ length: rows }, () => [adapters === 'each' ? randomTable() : shared, one]).flat());
}

/** A table (models/adapter-image.ts) over half floats of no meaning. */
function randomTable(): bigint {
  const [entryBytes, half] = [32, 2];
  const memory = new Uint16Array(model.linears.reduce((sum, linear) => sum + (linear.in + linear.out) * rank, 0)).fill(0x1000);
  const table = new Uint8Array(model.linears.length * entryBytes);
  kept.push(memory, table);
  const view = new DataView(table.buffer);
  let at = address(memory);
  const take = (elements: number) => {
    at += BigInt(elements * Uint16Array.BYTES_PER_ELEMENT);
    return at - BigInt(elements * Uint16Array.BYTES_PER_ELEMENT);
  };
  for (const [number, linear] of model.linears.entries()) {
    const entry = number * entryBytes;
    view.setBigUint64(entry, take(linear.in * rank), true);
    view.setBigUint64(entry + 8, take(linear.out * rank), true);
    view.setFloat32(entry + 16, 1, true);
    view.setInt32(entry + 20, rank, true);
    view.setInt32(entry + 24, half, true);
  }
  return address(table);
}

/** By operator, and for products by the last two parts of their names ("gate.matmul"), since those say which weight. */
function report(trace: z.infer<typeof Trace>): void {
  const totals = new Map<string, { microseconds: number; calls: number }>();
  for (const { cat, name, dur, args } of trace) {
    if (cat !== 'Node' || !name.endsWith('_kernel_time')) continue;
    const op = args?.op_name ?? '?';
    const which = /MatMul|Linear/.test(op)
      ? ` ${name
          .replace(/_kernel_time$/, '')
          .split('.')
          .slice(-2)
          .join('.')}`
      : '';
    const total = totals.get(op + which) ?? { microseconds: 0, calls: 0 };
    total.microseconds += dur ?? 0;
    total.calls++;
    totals.set(op + which, total);
  }
  const sum = [...totals.values()].reduce((all, { microseconds }) => all + microseconds, 0);
  process.stdout.write(`${values.adapters} adapters, ${rows} × ${tokens} tokens: ${(sum / RUNS / 1000).toFixed(2)} ms a step\n`);
  for (const [name, { microseconds, calls }] of [...totals].sort((a, b) => b[1].microseconds - a[1].microseconds)) {
    const share = ((100 * microseconds) / sum).toFixed(1).padStart(5);
    process.stdout.write(
      `${share} %  ${(microseconds / RUNS / 1000).toFixed(3).padStart(8)} ms  ${String(calls / RUNS).padStart(4)} ×  ${name}\n`,
    );
  }
}
