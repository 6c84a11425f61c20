/** The engine alone, as the server uses it, and what its events say about speed. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HOME } from '../../../cli/home.ts';
import { openEngine } from '../../../gpu-worker/engine/client.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import type { Engine, EngineEvent, SamplingOptions } from '../../../shared/contract/engine.ts';
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import { newRequestId, newTenantId } from '../../../shared/ids.ts';
import { imagesFor } from '../../support/images.ts';
import { NEUTRAL_SAMPLING } from '../../support/neutral.ts';
import { randomAdapter } from './adapters.ts';
import type { BenchBase } from './base.ts';

export const PRECISIONS = ['fp32', 'int8', 'int4'] as const;

const SAMPLING: SamplingOptions = { ...NEUTRAL_SAMPLING, seed: 0, maxTokens: 1, ignoreEos: true };

export interface Work {
  prompt: number[];
  adapters: AdapterRef[];
}

export class BenchEngine {
  readonly #engine: Engine;
  readonly #base: BenchBase;
  readonly #folder: string;
  readonly #account = { tenant: newTenantId(), keyId: 'bench', model: 'bench', fromBatch: false };

  private constructor(engine: Engine, base: BenchBase, folder: string) {
    this.#engine = engine;
    this.#base = base;
    this.#folder = folder;
  }

  static async open(base: BenchBase, precision: string): Promise<BenchEngine> {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-bench-'));
    // Sequences are to take one token a step, side by side.
    const speculation = false;
    const engine = await openEngine({ basePath: base.path, precision, home: HOME, journalPath: join(folder, 'journal'), speculation });
    return new BenchEngine(engine, base, folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.close();
    await rm(this.#folder, { recursive: true });
  }

  /** Makes `count` different adapters resident. */
  async loadAdapters(count: number): Promise<AdapterRef[]> {
    const refs: AdapterRef[] = [];
    const imageOf = await imagesFor(this.#base.path, this.#engine.base.precision);
    for (let seed = 0; seed < count; seed++) {
      const { digest, bytes } = sealPackage(randomAdapter(seed, this.#base.modules), this.#base.modules);
      await this.#engine.load(digest, await imageOf(digest, bytes));
      refs.push({ digest, weight: 1 });
    }
    return refs;
  }

  /** Submits one request; resolves with its last event. */
  run({ prompt, adapters }: Work, sampling: Partial<SamplingOptions>, onEvent: (event: EngineEvent) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const request = {
        id: newRequestId(),
        account: this.#account,
        base: this.#engine.base.id,
        prompts: [prompt],
        n: 1,
        adapters,
        priority: 'interactive' as const,
        tenantWeight: 1,
        deadline: null,
        sampling: { ...SAMPLING, ...sampling },
        grammar: null,
      };
      this.#engine.submit(request, (events) => {
        for (const event of events) {
          onEvent(event);
          if (event.type !== 'done') continue;
          if (event.outcome === 'finished') resolve();
          else reject(new Error(`the engine did not finish: ${event.error ?? event.outcome}`));
        }
      });
    });
  }

  /** When each generated token arrived, in ms of performance.now(). */
  async #arrivals(work: Work, maxTokens: number): Promise<number[]> {
    const times: number[] = [];
    await this.run(work, { maxTokens }, (event) => {
      if (event.type === 'tokens') for (const _ of event.ids) times.push(performance.now());
    });
    return times;
  }

  /**
   * Tokens/s over `generated` steps in which all sequences decode: from the first token of the one that was
   * prefilled last. The others are further by then, so contexts are never shorter than they would be in step.
   */
  async decode(works: readonly Work[], generated: number): Promise<number> {
    const all = await Promise.all(works.map((work) => this.#arrivals(work, generated + 8 * works.length)));
    const last = all.reduce((latest, times) => (times[0]! > latest[0]! ? times : latest));
    const from = last[0]!;
    const to = last[generated]!;
    if (all.some((times) => times.at(-1)! < to)) throw new Error(`${works.length} sequences did not decode side by side: too few slots`);
    return (works.length * generated * 1000) / (to - from);
  }

  /** From submit to the first token, in ms. */
  async firstToken(work: Work): Promise<number> {
    const began = performance.now();
    const [first] = await this.#arrivals(work, 1);
    return first! - began;
  }

  /** Generated tokens/s from the first submit to the last token, prefill included. */
  async throughput(works: readonly Work[], generated: number): Promise<number> {
    const began = performance.now();
    const all = await Promise.all(works.map((work) => this.#arrivals(work, generated)));
    const tokens = all.reduce((sum, times) => sum + times.length, 0);
    return (tokens * 1000) / (performance.now() - began);
  }
}
