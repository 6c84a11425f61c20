/**
 * Prefill speed of the engine alone: one prompt of 128 and of 512 tokens, from submit to the first token, so with
 * sampling and one message between threads each way; llama-bench (pp128, pp512) measures the evaluation only.
 */
import { openBase, randomPrompt } from './support/base.ts';
import { Comparison, SIDES, SIDES_HELP, sideNames } from './support/comparison.ts';
import type { Quantisation } from './support/llama-cpp.ts';
import { readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { median, repeated, Samples } from './support/statistics.ts';

const HELP = `node tests/bench/prefill.ts

Prompt tokens/s of one request, bare and with a rank-16 adapter on all linears, beside llama.cpp (llama-bench) with
Q8_0 and Q4_0, in turn; each sample is the median of five repetitions.
${SIDES_HELP}`;

/** Bare int8 over a peer, by length. */
const TARGETS: Record<number, Partial<Record<Quantisation, number>>> = { 128: { Q4_0: 1.05 } };
const LENGTHS = [128, 512];
const ROUNDS = 5;

const options = readOptions(HELP, ROUNDS, SIDES);
const repetitions = options.quick ? 2 : 5;
const report = await Report.start('prefill', options);
const base = await openBase(options.base);
await using comparison = await Comparison.open(options, report, base, 1);

const random = new Random(2);
const samples = new Samples();
const add = (round: number, side: string, length: number, speed: number) => {
  // The runtime allocates at the first use of a length; llama-bench warms up too.
  if (round === 0) return;
  samples.add(`${side} ${length}`, speed);
  report.progress(`round ${round}: ${side} ${length}: ${speed.toFixed(0)} tok/s`);
};

for (let round = 0; round <= options.rounds; round++) {
  for (const side of comparison.ours) {
    for (const length of LENGTHS) {
      for (const [name, adapters] of [[sideNames.bare(side), []] as const, [sideNames.adapted(side), side.adapters] as const]) {
        await report.quiet.pass();
        const once = () => side.engine.firstToken({ prompt: randomPrompt(base, length, random), adapters: [...adapters] });
        add(round, name, length, (length * 1000) / (await repeated(repetitions, once)));
      }
    }
  }
  if (round === 0) continue;
  for (const quantisation of comparison.quantisations) {
    await report.quiet.pass();
    const speeds = await comparison.peer!.prefill(quantisation, LENGTHS, repetitions);
    for (const [length, of] of speeds) add(round, sideNames.peer(quantisation), length, median(of));
  }
}

for (const length of LENGTHS) comparison.report(report, 'prefill', String(length), samples, TARGETS[length] ?? {});
await report.end();
