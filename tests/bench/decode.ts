/**
 * Decoding speed of the engine alone, bare and with an adapter of its own for each sequence, beside llama.cpp on
 * the same base. The engine's figure includes sampling, text and the usage journal; llama-batched-bench has none.
 */
import type { AdapterRef } from '../../shared/contract/worker.ts';
import { openBase, randomPrompt } from './support/base.ts';
import { Comparison, SIDES, SIDES_HELP, sideNames } from './support/comparison.ts';
import type { Quantisation } from './support/llama-cpp.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { Samples } from './support/statistics.ts';

const HELP = `node tests/bench/decode.ts

Tokens/s while 1, 4, 8 and 16 sequences decode: context 128, 64 generated tokens each. Ours bare and with one
rank-16 adapter on all linears for each sequence; llama.cpp (llama-batched-bench) with Q8_0 and Q4_0, in turn.
${SIDES_HELP}  --sequences LIST  of 1, 4, 8, 16 (all; --quick: 1, 8)
`;

/** Bare int8 over a peer, by number of sequences. */
const TARGETS: Record<number, Partial<Record<Quantisation, number>>> = {
  1: { Q8_0: 1.1 },
  8: { Q8_0: 1.5, Q4_0: 1 },
  16: { Q8_0: 1.5, Q4_0: 1 },
};
const CONTEXT = 128;
const ROUNDS = 5;

const options = readOptions(HELP, ROUNDS, { ...SIDES, sequences: '' });
const generated = options.quick ? 16 : 64;
const asked = options.own.sequences || (options.quick ? '1,8' : '1,4,8,16');
const counts = listOf('--sequences', asked, ['1', '4', '8', '16']).map(Number);

const report = await Report.start('decode', options);
const base = await openBase(options.base);
await using comparison = await Comparison.open(options, report, base, Math.max(...counts));

const random = new Random(1);
const prompt = () => randomPrompt(base, CONTEXT, random);
const bare = (sequences: number) => Array.from({ length: sequences }, () => ({ prompt: prompt(), adapters: [] }));
const adapted = (sequences: number, refs: AdapterRef[]) => refs.slice(0, sequences).map((ref) => ({ prompt: prompt(), adapters: [ref] }));

// The runtime allocates at the first use of a batch size; llama-batched-bench warms up too.
for (const { engine, adapters } of comparison.ours) {
  for (const sequences of counts) {
    await engine.decode(bare(sequences), 2);
    await engine.decode(adapted(sequences, adapters), 2);
  }
}

const samples = new Samples();
for (let round = 0; round < options.rounds; round++) {
  for (const sequences of counts) {
    const take = async (side: string, measure: () => Promise<number>) => {
      await report.quiet.pass();
      const speed = await measure();
      samples.add(`${side} × ${sequences}`, speed);
      report.progress(`round ${round + 1}: ${side} × ${sequences}: ${speed.toFixed(0)} tok/s`);
    };
    for (const side of comparison.ours) {
      await take(sideNames.bare(side), () => side.engine.decode(bare(sequences), generated));
      await take(sideNames.adapted(side), () => side.engine.decode(adapted(sequences, side.adapters), generated));
    }
    for (const quantisation of comparison.quantisations)
      await take(sideNames.peer(quantisation), () => comparison.peer!.decode(quantisation, { sequences, context: CONTEXT, generated }));
  }
}

for (const sequences of counts) comparison.report(report, 'decode', `× ${sequences}`, samples, TARGETS[sequences] ?? {});
await report.end();
