/** Counts of what the engine did since it started, for metrics. */
import type { Distribution, EngineStats } from '../../shared/contract/engine.ts';

const STEP_BOUNDS_MS = [2, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400];

type Counted =
  | 'steps'
  | 'stepMs'
  | 'rows'
  | 'tokens'
  | 'generatedTokens'
  | 'prefilledTokens'
  | 'cachedTokens'
  | 'preemptions'
  | 'draftedTokens'
  | 'acceptedTokens';

/** The counts are the contract's own (EngineStats); what each one means stands there. */
export class Meters implements Pick<EngineStats, Counted> {
  steps = 0;
  rows = 0;
  tokens = 0;
  prefilledTokens = 0;
  cachedTokens = 0;
  generatedTokens = 0;
  draftedTokens = 0;
  acceptedTokens = 0;
  preemptions = 0;
  readonly stepMs: Distribution = { bounds: STEP_BOUNDS_MS, counts: [...STEP_BOUNDS_MS.map(() => 0), 0], sum: 0 };

  step(rows: number, milliseconds: number): void {
    this.steps++;
    this.rows += rows;
    const at = STEP_BOUNDS_MS.findIndex((bound) => milliseconds <= bound);
    this.stepMs.counts[at < 0 ? STEP_BOUNDS_MS.length : at]!++;
    this.stepMs.sum += milliseconds;
  }

  get counts(): Pick<EngineStats, Counted> {
    return { ...this };
  }
}
