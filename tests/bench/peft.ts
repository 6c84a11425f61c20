/** A batch in which every sequence has its own adapter: our engine beside transformers + PEFT, in turn. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { ROOT } from '../../cli/home.ts';
import { openCheckpoint } from '../../gpu-worker/models/source/checkpoint.ts';
import { RANK } from './support/adapters.ts';
import { openBase, randomPrompt } from './support/base.ts';
import { BenchEngine } from './support/engine.ts';
import { readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { ratios, Samples } from './support/statistics.ts';

const HELP = `node tests/bench/peft.ts

16 sequences of 128 prompt + 64 generated tokens, each with its own adapter of rank 16 on all linears, prefill included:
our engine (int8), and transformers + PEFT (adapter_names, float32, which is its faster form here). The first run
installs PyTorch, transformers and PEFT (tests/setup-peers peft), some gigabytes.
`;
const SEQUENCES = 16;
const PROMPT = 128;
const GENERATED = 64;

const options = readOptions(HELP, 3, {});
const generated = options.quick ? 8 : GENERATED;
const report = await Report.start('peft', options);
const base = await openBase(options.base);
const checkpoint = await openCheckpoint(base.path);
// Its random weights end no text, and transformers spells these differently.
const { bos_token_id: _, eos_token_id: __, rope_scaling: ___, ...config } = checkpoint.config;

const { stdout } = await promisify(execFile)(join(ROOT, 'tests', 'setup-peers'), ['peft'], { timeout: 30 * 60_000 });
const python = spawn(join(stdout.trim(), 'python'), [join(ROOT, 'tests', 'bench', 'peft', 'mixed.py')], {
  stdio: ['pipe', 'pipe', 'inherit'],
});
const lines = createInterface(python.stdout);
const answer = async (question: object): Promise<{ seconds: number }> => {
  python.stdin.write(`${JSON.stringify(question)}\n`);
  const [line] = (await Promise.race([once(lines, 'line'), once(python, 'exit').then(() => [''])])) as [string];
  if (line === '') throw new Error('PEFT ended before it answered');
  return JSON.parse(line) as { seconds: number };
};
await answer({ config, adapters: SEQUENCES, rank: RANK, prompt: PROMPT, generated, threads: availableParallelism() });

await using engine = await BenchEngine.open(base, 'int8');
const adapters = await engine.loadAdapters(SEQUENCES);
const random = new Random(19);
const works = () => adapters.map((adapter) => ({ prompt: randomPrompt(base, PROMPT, random), adapters: [adapter] }));
await engine.throughput(works(), 2);

const samples = new Samples();
for (let round = 0; round < options.rounds; round++) {
  await report.quiet.pass();
  samples.add('ours', await engine.throughput(works(), generated));
  await report.quiet.pass();
  samples.add('PEFT', (SEQUENCES * generated) / (await answer({})).seconds);
  report.progress(`round ${round + 1}: ours ${samples.of('ours').at(-1)!.toFixed(0)}, PEFT ${samples.of('PEFT').at(-1)!.toFixed(0)} tok/s`);
}
python.stdin.end();
report.add(
  { name: '16 adapters in one batch, ours', unit: 'tok/s', samples: samples.of('ours') },
  { name: '16 adapters in one batch, transformers + PEFT', unit: 'tok/s', samples: samples.of('PEFT') },
  { name: 'ours / PEFT', unit: '×', samples: ratios(samples.of('ours'), samples.of('PEFT')) },
);
await report.end();
