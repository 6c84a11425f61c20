/**
 * Prefill speed of the engine alone: one prompt of 128 and of 512 tokens, from submit to the first token, so with
 * sampling and one message between threads each way; llama-bench (pp128, pp512) measures the evaluation only.
 */
import { openBase, randomPrompt } from './support/base.ts';
import { openEngines, PRECISIONS } from './support/engine.ts';
import { LlamaCpp, QUANTISATIONS } from './support/llama-cpp.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { median, ratios, repeated, Samples } from './support/statistics.ts';

const HELP = `node tests/bench/prefill.ts

Prompt tokens/s of one request, bare and with a rank-16 adapter on all linears, beside llama.cpp (llama-bench) with
Q8_0 and Q4_0, in turn; each sample is the median of five repetitions.
  --precision LIST  int8, fp32 (int8)
  --peers LIST      llama.cpp or none (llama.cpp)
`;

/** Bare int8 over a peer. */
const TARGETS: Record<string, number> = { 'Q4_0 128': 1.05 };
const LENGTHS = [128, 512];
const ROUNDS = 5;

const options = readOptions(HELP, ROUNDS, { precision: 'int8', peers: 'llama.cpp' });
const repetitions = options.quick ? 2 : 5;
const precisions = listOf('--precision', options.own['precision']!, PRECISIONS);
const withPeer = listOf('--peers', options.own['peers']!, ['llama.cpp', 'none']).includes('llama.cpp');

const report = await Report.start('prefill', options);
const base = await openBase(options.base);
const peer = withPeer ? await LlamaCpp.setUp(base.path) : null;
if (peer) report.note(peer.build);
await using ours = await openEngines(base, precisions, 1);

const random = new Random(2);
// The runtime allocates at the first use of a length; llama-bench warms up too.
for (const { engine, adapters } of ours.engines) {
  for (const length of LENGTHS)
    for (const used of [[], adapters]) await engine.firstToken({ prompt: randomPrompt(base, length, random), adapters: used });
}

const samples = new Samples();
for (let round = 0; round < options.rounds; round++) {
  const add = (name: string, length: number, value: number) => {
    samples.add(`${name} ${length}`, value);
    report.progress(`round ${round + 1}: ${name} ${length}: ${value.toFixed(0)} tok/s`);
  };
  for (const { precision, engine, adapters } of ours.engines) {
    for (const length of LENGTHS) {
      for (const [name, used] of [[precision, []] as const, [`${precision} + adapter`, adapters] as const]) {
        await report.quiet.pass();
        const ms = await repeated(repetitions, () =>
          engine.firstToken({ prompt: randomPrompt(base, length, random), adapters: [...used] }),
        );
        add(name, length, (length * 1000) / ms);
      }
    }
  }
  for (const quantisation of peer ? QUANTISATIONS : []) {
    await report.quiet.pass();
    for (const [length, speeds] of await peer!.prefill(quantisation, LENGTHS, repetitions))
      add(`llama.cpp ${quantisation}`, length, median(speeds));
  }
}

for (const length of LENGTHS) {
  const of = (name: string) => samples.of(`${name} ${length}`);
  const figure = (name: string) => ({ name: `prefill ${name} ${length}`, unit: 'tok/s' as const, samples: of(name) });
  for (const precision of precisions) report.add(figure(precision), figure(`${precision} + adapter`));
  for (const quantisation of peer ? QUANTISATIONS : []) {
    report.add(figure(`llama.cpp ${quantisation}`));
    for (const precision of precisions) {
      const target = precision === 'int8' ? TARGETS[`${quantisation} ${length}`] : undefined;
      report.add({
        name: `prefill ${precision} / ${quantisation} ${length}`,
        unit: '×',
        samples: ratios(of(precision), of(`llama.cpp ${quantisation}`)),
        ...(target === undefined ? {} : { target: { atLeast: target } }),
      });
    }
  }
}
await report.end();
