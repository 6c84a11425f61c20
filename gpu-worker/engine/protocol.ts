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

export type ToEngine =
  | { type: 'submit'; request: EngineRequest }
  | { type: 'cancel'; id: string }
  | { type: 'add'; call: number; digest: string; image: ArrayBuffer }
  | { type: 'remove'; call: number; digest: string }
  | { type: 'stats'; call: number }
  | { type: 'close' };

export type FromEngine =
  | { type: 'ready'; base: BaseInfo; maxRank: number }
  | { type: 'events'; batches: [string, EngineEvent[]][] }
  | { type: 'done'; call: number }
  | { type: 'stats'; call: number; stats: EngineStats };
