/**
 * Where a step's time goes: runs one of the served graphs under ONNX Runtime's profiler and sums up by operator.
 * The profiler adds some microseconds to each call, so read the shares, not the sums.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { HOME } from '../../cli/home.ts';
import { AdapterSlots } from '../../gpu-worker/engine/adapter-slots.ts';
import { KvCache } from '../../gpu-worker/engine/kv-cache.ts';
import { parsePrecision, precisionOf } from '../../gpu-worker/models/precisions.ts';
import { NAMES, prepareModel } from '../../gpu-worker/models/prepare.ts';
import { openCheckpoint } from '../../gpu-worker/models/source/checkpoint.ts';
import { Binding, Session } from '../../gpu-worker/runtime/session.ts';
import { Tensor } from '../../gpu-worker/runtime/tensor.ts';
import { openBase } from './support/base.ts';

const HELP = `node tests/bench/profile.ts [options]

  --graph bare|adapted   (bare)
  --rows N               sequences in the step (1)
  --tokens N             tokens of each: 1 is a decode step after 128, more a prompt (1)
  --rank N               rank of the adapters (16)
  --precision NAME       (auto)
  --base PATH            (the default base)
`;
const RUNS = 10;
const THREADS = 2;
const PAST = 128;
const CAPACITY = 1024;

const Trace = z.array(
  z.looseObject({
    cat: z.string().optional(),
    name: z.string(),
    dur: z.number().optional(),
    args: z.looseObject({ op_name: z.string().optional() }).optional(),
  }),
);

const { values } = parseArgs({
  options: {
    graph: { type: 'string', default: 'bare' },
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
const graphName = z.enum(['bare', 'adapted']).parse(values.graph);
const [rows, tokens, rank] = [values.rows, values.tokens, values.rank].map((n) => z.coerce.number().int().positive().parse(n)) as [
  number,
  number,
  number,
];

const checkpoint = await openCheckpoint((await openBase(values.base)).path);
const model = prepareModel(checkpoint, precisionOf(parsePrecision(values.precision)), join(HOME, 'cache', 'bases'));
const folder = mkdtempSync(join(tmpdir(), 'switchyard-profile-'));
try {
  const graph = model.graphs[graphName];
  {
    using session = new Session(graph.file, { threads: THREADS, profile: join(folder, 'trace') });
    const binding = new Binding(session, graph.inputs, graph.outputs);
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
  const ids = BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt((i * 37) % vocab));
  binding.input(NAMES.ids, new Tensor(NAMES.ids, 'i64', [rows, tokens], ids));
  binding.input(NAMES.lastIndex, new Tensor(NAMES.lastIndex, 'i32', [rows], new Int32Array(rows).fill(past + tokens - 1)));
  binding.input(NAMES.total, new Tensor(NAMES.total, 'i32', [], Int32Array.of(past + tokens)));
  const select = BigInt64Array.from({ length: rows }, (_, i) => BigInt((i + 1) * tokens - 1));
  binding.input(NAMES.select, new Tensor(NAMES.select, 'i64', [rows], select));
  binding.output(NAMES.logits, new Tensor(NAMES.logits, 'f32', [rows, vocab], new Float32Array(rows * vocab)));
  new KvCache(model.config, rows, CAPACITY).bind(binding, 0, rows);
  if (graphName === 'adapted') {
    const slots = new AdapterSlots(model.linears);
    slots.layOut(rank, rows);
    slots.bind(binding, 0, rows);
  }
}

/** By operator, and for products by the last two parts of their names ("gate.matmul"), since those say which weight. */
function report(trace: z.infer<typeof Trace>): void {
  const totals = new Map<string, { microseconds: number; calls: number }>();
  for (const { cat, name, dur, args } of trace) {
    if (cat !== 'Node' || !name.endsWith('_kernel_time')) continue;
    const op = args?.op_name ?? '?';
    const which = op.startsWith('MatMul')
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
  process.stdout.write(`${graphName}, ${rows} × ${tokens} tokens: ${(sum / RUNS / 1000).toFixed(2)} ms a step\n`);
  for (const [name, { microseconds, calls }] of [...totals].sort((a, b) => b[1].microseconds - a[1].microseconds)) {
    const share = ((100 * microseconds) / sum).toFixed(1).padStart(5);
    process.stdout.write(
      `${share} %  ${(microseconds / RUNS / 1000).toFixed(3).padStart(8)} ms  ${String(calls / RUNS).padStart(4)} ×  ${name}\n`,
    );
  }
}
