/**
 * Decoding speed of the engine alone, bare and with an adapter of its own for each sequence, beside llama.cpp on
 * the same base. The engine's figure includes sampling, text and the usage journal; llama-batched-bench has none.
 */
import type { AdapterRef } from '../../shared/contract/worker.ts';
import { openBase, randomPrompt } from './support/base.ts';
import { openEngines, PRECISIONS } from './support/engine.ts';
import { LlamaCpp, QUANTISATIONS } from './support/llama-cpp.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { ratios, Samples } from './support/statistics.ts';

const HELP = `node tests/bench/decode.ts

Tokens/s while 1, 4, 8 and 16 sequences decode: context 128, 64 generated tokens each. Ours bare and with one
rank-16 adapter on all linears for each sequence; llama.cpp (llama-batched-bench) with Q8_0 and Q4_0, in turn.
  --precision LIST  int8, fp32 (int8)
  --peers LIST      llama.cpp or none (llama.cpp)
  --sequences LIST  of 1, 4, 8, 16 (all; --quick: 1, 8)
`;

/** Bare int8 over a peer. */
const TARGETS: Record<string, number> = { 'Q8_0 × 1': 1.1, 'Q8_0 × 8': 1.5, 'Q8_0 × 16': 1.5, 'Q4_0 × 8': 1, 'Q4_0 × 16': 1 };
const CONTEXT = 128;
const ROUNDS = 5;

const options = readOptions(HELP, ROUNDS, { precision: 'int8', peers: 'llama.cpp', sequences: '' });
const generated = options.quick ? 16 : 64;
const counts = listOf('--sequences', options.own['sequences'] || (options.quick ? '1,8' : '1,4,8,16'), ['1', '4', '8', '16']).map(Number);
const precisions = listOf('--precision', options.own['precision']!, PRECISIONS);
const withPeer = listOf('--peers', options.own['peers']!, ['llama.cpp', 'none']).includes('llama.cpp');

const report = await Report.start('decode', options);
const base = await openBase(options.base);
const peer = withPeer ? await LlamaCpp.setUp(base.path) : null;
if (peer) report.note(peer.build);
await using ours = await openEngines(base, precisions, Math.max(...counts));

const random = new Random(1);
const prompt = () => randomPrompt(base, CONTEXT, random);
const bare = (sequences: number) => Array.from({ length: sequences }, () => ({ prompt: prompt(), adapters: [] }));
const adapted = (sequences: number, refs: AdapterRef[]) => refs.slice(0, sequences).map((ref) => ({ prompt: prompt(), adapters: [ref] }));

// The runtime allocates at the first use of a batch size; llama-batched-bench warms up too.
for (const { engine, adapters } of ours.engines) {
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
    for (const { precision, engine, adapters } of ours.engines) {
      await take(precision, () => engine.decode(bare(sequences), generated));
      await take(`${precision} + adapters`, () => engine.decode(adapted(sequences, adapters), generated));
    }
    for (const quantisation of peer ? QUANTISATIONS : [])
      await take(`llama.cpp ${quantisation}`, () => peer!.decode(quantisation, { sequences, context: CONTEXT, generated }));
  }
}

for (const sequences of counts) {
  const of = (name: string) => samples.of(`${name} × ${sequences}`);
  const figure = (name: string) => ({ name: `decode ${name} × ${sequences}`, unit: 'tok/s' as const, samples: of(name) });
  for (const precision of precisions) report.add(figure(precision), figure(`${precision} + adapters`));
  for (const quantisation of peer ? QUANTISATIONS : []) {
    report.add(figure(`llama.cpp ${quantisation}`));
    for (const precision of precisions) {
      const target = precision === 'int8' ? TARGETS[`${quantisation} × ${sequences}`] : undefined;
      report.add({
        name: `decode ${precision} / ${quantisation} × ${sequences}`,
        unit: '×',
        samples: ratios(of(precision), of(`llama.cpp ${quantisation}`)),
        ...(target === undefined ? {} : { target: { atLeast: target } }),
      });
    }
  }
}
await report.end();
