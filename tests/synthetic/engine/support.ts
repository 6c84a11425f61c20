/** An engine on a base of the fixtures, requests to it, and what came back, gathered by sequence. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EngineOptions, openEngine } from '../../../gpu-worker/engine/client.ts';
import { Random } from '../../../gpu-worker/engine/sampling/random.ts';
import type { BaseModules } from '../../../shared/adapters/base.ts';
import { writeSealed } from '../../../shared/adapters/sealed.ts';
import type { Engine, EngineEvent, EngineRequest, TokenLogprob } from '../../../shared/contract/engine.ts';
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import { imagesFor } from '../../support/images.ts';
import { type RequestOptions, requestOf } from './requests.ts';

export interface OpenedEngine extends AsyncDisposable {
  engine: Engine;
  journalPath: string;
  /** Makes a sealed adapter resident. */
  load(digest: string, sealed: Uint8Array): Promise<void>;
}

/** Its state lies in a folder of its own, which goes when the engine is closed. */
export async function open(options: Pick<EngineOptions, 'basePath' | 'precision'> & Partial<EngineOptions>): Promise<OpenedEngine> {
  const home = await mkdtemp(join(tmpdir(), 'switchyard-engine-'));
  const journalPath = join(home, 'usage.jsonl');
  const engine = await openEngine({ home, journalPath, ...options }).catch(async (cause: unknown) => {
    await rm(home, { recursive: true });
    throw cause;
  });
  const imageOf = await imagesFor(options.basePath, options.precision);
  return {
    engine,
    journalPath,
    load: async (digest, sealed) => engine.load(digest, await imageOf(digest, sealed)),
    async [Symbol.asyncDispose]() {
      await engine.close();
      await rm(home, { recursive: true });
    },
  };
}

export { type RequestOptions, requestOf };

export interface SequenceResult {
  prompt: Extract<EngineEvent, { type: 'prompt' }> | null;
  ids: number[];
  text: string;
  logprobs: TokenLogprob[] | null;
  reason: 'stop' | 'length' | 'cancelled' | null;
}

export interface Result {
  sequences: SequenceResult[];
  done: Extract<EngineEvent, { type: 'done' }>;
}

export interface Submitted {
  result: Promise<Result>;
  cancel(): void;
}

/** `onEvents` sees what arrives before it is gathered. */
export function submit(engine: Engine, request: EngineRequest, onEvents: (events: EngineEvent[]) => void = () => {}): Submitted {
  const count = request.prompts.length * request.n;
  const sequences = Array.from(
    { length: count },
    (): SequenceResult => ({ prompt: null, ids: [], text: '', logprobs: null, reason: null }),
  );
  const { promise, resolve, reject } = Promise.withResolvers<Result>();
  const { cancel } = engine.submit(request, (events) => {
    try {
      onEvents(events);
      for (const event of events) {
        if (event.type === 'done') resolve({ sequences, done: event });
        else gather(sequences[event.sequence]!, event);
      }
    } catch (error) {
      reject(error);
    }
  });
  return { result: promise, cancel };
}

function gather(of: SequenceResult, event: Exclude<EngineEvent, { type: 'done' }>): void {
  if (of.reason !== null) throw new Error(`${event.type} after the sequence had finished`);
  switch (event.type) {
    case 'prompt':
      of.prompt = event;
      break;
    case 'tokens':
      of.ids.push(...event.ids);
      of.text += event.text;
      if (event.logprobs) of.logprobs = [...(of.logprobs ?? []), ...event.logprobs];
      break;
    case 'finish':
      of.text += event.text;
      of.reason = event.reason;
      break;
    default:
      event satisfies never;
  }
}

export async function run(engine: Engine, request: EngineRequest): Promise<Result> {
  const result = await submit(engine, request).result;
  if (result.done.outcome !== 'finished') throw new Error(`request ${result.done.outcome}: ${result.done.error}`);
  return result;
}

/** One prompt, one choice. */
export async function generate(engine: Engine, prompt: number[], options: RequestOptions = {}): Promise<SequenceResult> {
  return (await run(engine, requestOf([prompt], options))).sequences[0]!;
}

/** The values of a logprob, as bits would be compared: ids and float64 numbers, alternatives included. */
export const bitsOf = ({ ids, logprobs, prompt, reason, text }: SequenceResult) => ({
  ids,
  logprobs,
  echo: prompt?.logprobs ?? null,
  reason,
  text,
});

/** log p over the whole vocabulary [position][id] after each token of `prompt`, the last one's from a generated token. */
export async function distributions(engine: Engine, prompt: number[], adapters: AdapterRef[] = []): Promise<Float64Array[]> {
  const { vocab_size } = engine.base;
  const options = { adapters, echo: true, logprobs: vocab_size, maxTokens: 1, ignoreEos: true };
  const { prompt: echoed, logprobs } = await generate(engine, prompt, options);
  return [...echoed!.logprobs!.slice(1), ...logprobs!].map((entry) => {
    const row = new Float64Array(vocab_size);
    for (const { id, logprob } of entry!.top) row[id] = logprob;
    return row;
  });
}

/** Pseudo-random numbers in (−1, 1), the same for a seed. */
export function noise(length: number, seed: number): Float32Array {
  const random = new Random(seed, 0);
  return Float32Array.from({ length }, () => 2 * random.next() - 1);
}

/** A sealed adapter of `rank` on these linears, strong enough to change what the tiny bases say, and its digest. */
export function randomAdapter(modules: BaseModules, rank: number, seed: number): { digest: string; sealed: Uint8Array } {
  const targets = [...modules.linears].map(([path, { in: width, out }], i) => {
    const A = noise(rank * width, 1000 * seed + 2 * i).map((x) => x / Math.sqrt(width));
    const B = noise(rank * out, 1000 * seed + 2 * i + 1).map((x) => x / Math.sqrt(rank));
    return [path, { rank, A, B }] as const;
  });
  const sealed = writeSealed({ baseRevision: modules.revision, rank, targets: new Map(targets) });
  return { digest: createHash('sha256').update(sealed).digest('hex'), sealed };
}
