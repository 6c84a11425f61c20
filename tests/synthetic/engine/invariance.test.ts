/**
 * Batch invariance on tiny models of every family in 8 bits: tokens and log-probabilities are the same bits alone, in any
 * company, under any step time, preempted for want of pages, found in the prefix cache and drafted.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { bytesPerPage } from '../../../gpu-worker/engine/kv-pool.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import type { EngineStats } from '../../../shared/contract/engine.ts';
import { newTenantId } from '../../../shared/ids.ts';
import { FAMILIES } from '../models/support.ts';
import { bitsOf, noise, type OpenedEngine, open, type RequestOptions, randomAdapter, requestOf, run } from './support.ts';

/** The longest sequence: prompt and completion. */
const CONTEXT = 120;
const TENANTS = [newTenantId(), newTenantId()];
const PRECISION = 'int8';

interface Kind {
  prompt: number[];
  options: RequestOptions;
}

/** Requests that share beginnings and repeat themselves, with and without adapters. */
function kindsOf(vocabulary: number, digests: readonly string[]): Kind[] {
  const text = (length: number, seed: number) => Array.from(noise(length, seed), (x) => Math.floor(((x + 1) / 2) * vocabulary));
  const shared = text(64, 1);
  const phrase = text(6, 2);
  const adapter = (i: number, weight = 1) => ({ digest: digests[i]!, weight });
  const common = { ignoreEos: true, logprobs: 2, seed: 3 };
  return [
    { prompt: [...shared, ...text(20, 4)], options: { ...common, maxTokens: 30 } },
    { prompt: [...shared, ...text(3, 5)], options: { ...common, maxTokens: 12, temperature: 1, n: 3 } },
    { prompt: text(1, 6), options: { ...common, maxTokens: 40 } },
    { prompt: [...phrase, ...phrase, ...phrase], options: { ...common, maxTokens: 60, frequencyPenalty: 0.1 } },
    { prompt: text(50, 7), options: { ...common, maxTokens: 8, echo: true } },
    { prompt: [...shared, ...text(9, 8)], options: { ...common, maxTokens: 20, adapters: [adapter(0)] } },
    { prompt: [...shared, ...text(30, 9)], options: { ...common, maxTokens: 20, adapters: [adapter(0, 0.5), adapter(1, -0.7)] } },
    { prompt: text(33, 10), options: { ...common, maxTokens: 25, temperature: 0.7, topP: 0.9, adapters: [adapter(1)] } },
  ];
}

/** Machines that force what may disturb: pages for little more than one sequence, steps of a few tokens, everything at once. */
const MACHINES = [
  { rows: 4, pages: 5, stepMs: 0.1 },
  { rows: 3, pages: 7, stepMs: 5 },
  { rows: 8, pages: 200, stepMs: 1000 },
];

async function on<T>(opened: OpenedEngine, use: (opened: OpenedEngine) => Promise<T>): Promise<T> {
  try {
    return await use(opened);
  } finally {
    await opened[Symbol.asyncDispose]();
  }
}

const totals = { preemptions: 0, accepted: 0 };

for (const family of readdirSync(FAMILIES)) {
  const basePath = join(FAMILIES, family);
  const checkpoint = await openCheckpoint(basePath);
  // Two pages are the whole context of one variant: too few to share, cut and take back.
  if (checkpoint.config.max_position_embeddings < CONTEXT) continue;
  const modules = baseModules(checkpoint);
  const adapters = [randomAdapter(modules, 4, 1), randomAdapter(modules, 13, 2)];
  const kinds = kindsOf(
    checkpoint.config.vocab_size,
    adapters.map(({ digest }) => digest),
  );
  const engine = async ({ pages, ...options }: { rows: number; pages: number; stepMs: number; speculation?: boolean }) => {
    const kvBytes = pages * bytesPerPage(checkpoint.config, 'f16');
    const opened = await open({ basePath, precision: PRECISION, threads: 2, context: CONTEXT, kvBytes, ...options });
    for (const { digest, sealed } of adapters) await opened.load(digest, sealed);
    return opened;
  };

  describe(family, async () => {
    const alone = await on(await engine({ rows: 1, pages: 8, stepMs: 1000, speculation: false }), async (opened) => {
      const results = [];
      for (const { prompt, options } of kinds) results.push((await run(opened.engine, requestOf([prompt], options))).sequences.map(bitsOf));
      return results;
    });

    for (const machine of MACHINES) {
      test(`${machine.rows} rows, ${machine.pages} pages, steps of ${machine.stepMs} ms`, async (t) => {
        const stats = await on(await engine(machine), async (opened): Promise<EngineStats> => {
          const arrival = fc.record({ kind: fc.nat(kinds.length - 1), tenant: fc.constantFrom(...TENANTS), batch: fc.boolean() });
          await fc.assert(
            fc.asyncProperty(fc.array(arrival, { minLength: 4, maxLength: 12, size: 'max' }), async (arrivals) => {
              const answers = arrivals.map(async ({ kind, tenant, batch }) => {
                const { prompt, options } = kinds[kind]!;
                const request = requestOf([prompt], { ...options, tenant });
                const { sequences } = await run(opened.engine, batch ? { ...request, priority: 'batch' } : request);
                assert.deepEqual(sequences.map(bitsOf), alone[kind], `request of kind ${kind}`);
              });
              await Promise.all(answers);
            }),
            { seed: 7, numRuns: 3, endOnFailure: true },
          );
          return await opened.engine.stats();
        });
        const { preemptions, cachedTokens, acceptedTokens, kvPagesHeld } = stats;
        t.diagnostic(JSON.stringify({ preemptions, cachedTokens, acceptedTokens }));
        assert.equal(kvPagesHeld, 0);
        assert.ok(cachedTokens > 0);
        totals.preemptions += preemptions;
        totals.accepted += acceptedTokens;
      });
    }
  });
}

test('all that may disturb did happen', () => {
  assert.ok(totals.preemptions > 10 && totals.accepted > 100, JSON.stringify(totals));
});
