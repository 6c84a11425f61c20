/** What the threads of the engine say to each other. Plain data; large memory is handed over, so that the giver keeps nothing alive. */
import type { EngineEvent, EngineRequest, EngineStats } from '../../shared/contract/engine.ts';
import type { BaseInfo } from '../../shared/contract/worker.ts';
import type { PrecisionName } from '../models/precision.ts';

export interface EngineSettings {
  basePath: string;
  precision: PrecisionName;
  /** Holds the cache of served weights. */
  cacheFolder: string;
  journalPath: string;
  threads: number;
  slots: number;
  /** Tokens of one sequence, prompt and completion. */
  context: number;
  adapterBudget: number;
}

/** Some modules of a served adapter: where their factors lie, in float32 elements. */
export interface AdapterImage {
  /** Of the whole adapter. */
  rank: number;
  memory: ArrayBuffer;
  modules: { path: string; rank: number; A: { at: number; length: number }; B: { at: number; length: number } }[];
}

export type ToEngine =
  | { type: 'submit'; request: EngineRequest }
  | { type: 'cancel'; id: string }
  | { type: 'add'; call: number; digest: string; images: AdapterImage[] }
  | { type: 'remove'; call: number; digest: string }
  | { type: 'stats'; call: number }
  | { type: 'close' };

export type FromEngine =
  | { type: 'ready'; base: BaseInfo; maxRank: number }
  | { type: 'events'; batches: [string, EngineEvent[]][] }
  | { type: 'done'; call: number }
  | { type: 'stats'; call: number; stats: EngineStats };

/** `part`: which of the loaders this is for, each of which does its share of the modules. */
export type ToLoader = { call: number; digest: string; sealed: Uint8Array; part: { index: number; of: number } };
export type FromLoader = { call: number; image: AdapterImage } | { call: number; error: string };
