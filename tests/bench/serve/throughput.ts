/** Streams through edge and worker against the same prompts through the engine alone, in turn. */
import { randomText } from '../support/base.ts';
import { stream, streamedBody } from '../support/client.ts';
import { BenchEngine } from '../support/engine.ts';
import { ratios, Samples } from '../support/statistics.ts';
import { type Bench, GENERATED, PROMPT_TOKENS } from './parts.ts';

/** Of the stack over the engine, bare, by number of streams. */
const TARGETS: Record<number, number> = { 8: 0.85 };

export async function throughput({ stack, base, precision, adapters, options, random, report }: Bench): Promise<void> {
  const counts = options.quick ? [1, 8] : [1, 4, 8, 16];
  const generated = options.quick ? 16 : GENERATED;
  await using engine = await BenchEngine.open(base, precision);
  const refs = await engine.loadAdapters(adapters.length);
  const baseId = (await stack.base()).id;
  const samples = new Samples();

  const throughStack = async (prompts: string[], models: string[]): Promise<number> => {
    const began = performance.now();
    const calls = prompts.map((prompt, i) => ({
      url: `${stack.url}/v1/completions`,
      headers: stack.headers,
      body: streamedBody(models[i]!, prompt, generated),
    }));
    const timings = await Promise.all(calls.map(stream));
    return (timings.reduce((sum, { tokens }) => sum + tokens, 0) * 1000) / (performance.now() - began);
  };
  const throughEngine = (prompts: string[], adapted: boolean): Promise<number> =>
    engine.throughput(
      prompts.map((prompt, i) => ({ prompt: base.tokenizer.encode(prompt), adapters: adapted ? [refs[i]!] : [] })),
      generated,
    );

  // Round 0 warms both sides up, the adapters' way into memory included.
  for (let round = 0; round <= options.rounds; round++) {
    for (const streams of counts) {
      for (const adapted of [false, true]) {
        const name = `streams × ${streams}${adapted ? ' + adapters' : ''}`;
        const models = adapted ? adapters.slice(0, streams) : Array<string>(streams).fill(baseId);
        const prompts = () => Array.from({ length: streams }, () => randomText(base.tokenizer, PROMPT_TOKENS, random));
        await report.quiet.pass();
        const alone = await throughEngine(prompts(), adapted);
        await report.quiet.pass();
        const whole = await throughStack(prompts(), models);
        if (round === 0) continue;
        samples.add(`engine ${name}`, alone);
        samples.add(`stack ${name}`, whole);
        report.progress(`round ${round}: ${name}: engine ${alone.toFixed(0)}, stack ${whole.toFixed(0)} tok/s`);
      }
    }
  }
  for (const streams of counts) {
    for (const suffix of ['', ' + adapters']) {
      const name = `streams × ${streams}${suffix}`;
      const [alone, whole] = [samples.of(`engine ${name}`), samples.of(`stack ${name}`)];
      const target = suffix === '' ? TARGETS[streams] : undefined;
      report.add(
        { name: `engine alone, ${name}`, unit: 'tok/s', samples: alone },
        { name: `whole stack, ${name}`, unit: 'tok/s', samples: whole },
        {
          name: `stack / engine, ${name}`,
          unit: '×',
          samples: ratios(whole, alone),
          ...(target === undefined ? {} : { target: { atLeast: target } }),
        },
      );
    }
  }
}
