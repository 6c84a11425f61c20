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
import { ratios, Samples } from './support/statistics.ts';

const HELP = `node tests/bench/decode.ts

Tokens/s while 1, 4, 8 and 16 sequences decode: context 128, 64 generated tokens each, no drafts. Ours bare, with a
rank-16 adapter on all linears for each sequence, and with one for all of them; llama.cpp (llama-batched-bench) with Q8_0 and Q4_0, in turn.
${SIDES_HELP}  --sequences LIST  of 1, 4, 8, 16 (all; --quick: 1, 8)
`;

/** Bare over a peer, by number of sequences. */
const TARGETS: Record<number, Partial<Record<Quantisation, number>>> = {
  1: { Q8_0: 1.1 },
  8: { Q8_0: 1.5, Q4_0: 1 },
  16: { Q8_0: 1.5, Q4_0: 1 },
};
/** With adapters over bare, by number of sequences. */
const ADAPTED_TARGETS: Record<number, { each: number; one: number }> = { 16: { each: 0.75, one: 0.9 } };
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
const adapted = (refs: AdapterRef[]) => refs.map((ref) => ({ prompt: prompt(), adapters: [ref] }));
const each = (sequences: number, refs: AdapterRef[]) => adapted(refs.slice(0, sequences));
const one = (sequences: number, refs: AdapterRef[]) => adapted(Array<AdapterRef>(sequences).fill(refs[0]!));

// The runtime allocates at the first use of a batch size; llama-batched-bench warms up too.
for (const { engine, adapters } of comparison.ours) {
  for (const sequences of counts) {
    await engine.decode(bare(sequences), 2);
    await engine.decode(each(sequences, adapters), 2);
    await engine.decode(one(sequences, adapters), 2);
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
      await take(sideNames.adapted(side), () => side.engine.decode(each(sequences, side.adapters), generated));
      await take(sideNames.shared(side), () => side.engine.decode(one(sequences, side.adapters), generated));
    }
    for (const quantisation of comparison.quantisations)
      await take(sideNames.peer(quantisation), () => comparison.peer!.decode(quantisation, { sequences, context: CONTEXT, generated }));
  }
}

for (const sequences of counts) {
  const size = `× ${sequences}`;
  comparison.report(report, 'decode', size, samples, TARGETS[sequences] ?? {});
  for (const [i, side] of comparison.ours.entries()) {
    const over = (name: string) => ratios(samples.of(`${name} ${size}`), samples.of(`${sideNames.bare(side)} ${size}`));
    const targets = i === 0 ? ADAPTED_TARGETS[sequences] : undefined;
    const target = (atLeast: number | undefined) => (atLeast === undefined ? {} : { target: { atLeast } });
    report.add(
      { name: `decode ${size}, ${side.precision}, one adapter`, unit: 'tok/s', samples: samples.of(`${sideNames.shared(side)} ${size}`) },
      {
        name: `decode ${size}, ${side.precision}, an adapter each / bare`,
        unit: '×',
        samples: over(sideNames.adapted(side)),
        ...target(targets?.each),
      },
      {
        name: `decode ${size}, ${side.precision}, one adapter / bare`,
        unit: '×',
        samples: over(sideNames.shared(side)),
        ...target(targets?.one),
      },
    );
  }
}
await report.end();
