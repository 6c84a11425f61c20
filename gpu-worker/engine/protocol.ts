/** What the threads of the engine say to each other. Plain data; large memory is handed over, so that the giver keeps nothing alive. */
import type { MessagePort } from 'node:worker_threads';
import type { EmbeddingEvent, EngineEvent, EngineRequest, EngineStats, EngineWork } from '../../shared/contract/engine.ts';
import type { BaseInfo } from '../../shared/contract/worker.ts';
import type { PrecisionName } from '../models/precision.ts';

export interface EngineSettings {
  basePath: string;
  precision: PrecisionName;
  /** Holds the cache of served weights. */
  cacheFolder: string;
  journalPath: string;
  threads: number;
  /** Sequences that run at once. */
  rows: number;
  /** Bytes of the KV pool. */
  kvBytes: number;
  /** The most tokens of one sequence, prompt and completion; null: as many as the base and the pool can hold. */
  context: number | null;
  /** How long a step may take while others wait for their next token. */
  stepMs: number;
  speculation: boolean;
}

/** What the engine thread is started with. */
export interface EngineStart {
  settings: EngineSettings;
  /** To the grammar threads. */
  grammars: MessagePort;
}

export type ToEngine =
  | { type: 'submit'; request: EngineRequest }
  | { type: 'embed'; request: EngineWork }
  | { type: 'cancel'; id: string }
  | { type: 'add'; call: number; digest: string; image: ArrayBuffer }
  | { type: 'remove'; call: number; digest: string }
  | { type: 'stats'; call: number }
  | { type: 'close' };

/** Each kind of request gets its own. */
export type AnyEvent = EngineEvent | EmbeddingEvent;

export type FromEngine =
  | { type: 'ready'; base: BaseInfo }
  | { type: 'events'; batches: [string, AnyEvent[]][] }
  | { type: 'done'; call: number }
  | { type: 'stats'; call: number; stats: EngineStats };
