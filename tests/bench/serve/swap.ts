/**
 * Hot swap: first token with an adapter that is not in memory, over the bare base's.
 *
 *   object storage   each adapter's first use after `cache/` was deleted and the stack restarted
 *   disk             later uses in turn, while host memory holds only a part of them
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { randomText } from '../support/base.ts';
import { stream, streamedBody } from '../support/client.ts';
import { differences, median, Samples } from '../support/statistics.ts';
import { type Bench, PROMPT_TOKENS } from './parts.ts';

/** Over bare, at the median. */
const TARGETS_MS = { 'object storage': 100, disk: 30 };
const FEW_TOKENS = 4;
/** Of the host, while adapters of rank 16 have about 10 MB each. */
const MEMORY_MB = 40;
const TURNS_FROM_DISK = 2;

export async function swap({ stack, base, adapters, options, random, report }: Bench): Promise<void> {
  const baseId = (await stack.base()).id;
  const samples = new Samples();
  const first = async (model: string) => {
    const body = streamedBody(model, randomText(base.tokenizer, PROMPT_TOKENS, random), FEW_TOKENS);
    return (await stream({ url: `${stack.url}/v1/completions`, headers: stack.headers, body })).firstMs;
  };
  process.env['SWITCHYARD_ADAPTER_MEMORY_MB'] = String(MEMORY_MB);
  for (let round = 0; round < options.rounds; round++) {
    await stack.stop();
    await rm(join(stack.home, 'cache'), { recursive: true });
    await stack.launch();
    for (let i = 0; i < 3; i++) await first(baseId);
    for (let turn = 0; turn <= TURNS_FROM_DISK; turn++) {
      await report.quiet.pass();
      const source = turn === 0 ? 'object storage' : 'disk';
      for (const adapter of adapters) {
        samples.add(`bare beside ${source}`, await first(baseId));
        samples.add(source, await first(adapter));
        samples.add(`resident after ${source}`, await first(adapter));
      }
    }
    report.progress(
      `round ${round + 1}: hot swap from object storage ${median(samples.of('object storage')).toFixed(0)} ms to the first token`,
    );
  }
  delete process.env['SWITCHYARD_ADAPTER_MEMORY_MB'];
  report.note(`hot swap: ${adapters.length} adapters of rank 16 on all linears in turn, host memory for ${MEMORY_MB} MB of them`);
  for (const source of ['object storage', 'disk'] as const) {
    const over = differences(samples.of(source), samples.of(`bare beside ${source}`));
    report.add(
      { name: `first token, bare, beside ${source}`, unit: 'ms', samples: samples.of(`bare beside ${source}`) },
      { name: `first token, adapter from ${source}`, unit: 'ms', samples: samples.of(source) },
      { name: 'first token, same adapter again', unit: 'ms', samples: samples.of(`resident after ${source}`) },
      { name: `hot swap from ${source} over bare, p50`, unit: 'ms', samples: over, target: { atMost: TARGETS_MS[source] } },
      { name: `hot swap from ${source} over bare, p95`, unit: 'ms', samples: over, q: 0.95 },
    );
  }
}
