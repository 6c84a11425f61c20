/** Counts of what the engine did since it started, for metrics. */
import type { Distribution } from '../../shared/contract/engine.ts';

const STEP_BOUNDS_MS = [2, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400];

export class Meters {
  steps = 0;
  /** Rows of all steps. */
  rows = 0;
  /** Prompt tokens that were computed, again after a preemption included. */
  prefilledTokens = 0;
  /** Prompt tokens that were found in the prefix cache instead. */
  cachedTokens = 0;
  generatedTokens = 0;
  draftedTokens = 0;
  acceptedTokens = 0;
  preemptions = 0;
  /** Milliseconds; the last count is of what lies above all bounds. */
  readonly stepMs: Distribution = { bounds: STEP_BOUNDS_MS, counts: [...STEP_BOUNDS_MS.map(() => 0), 0], sum: 0 };

  step(rows: number, milliseconds: number): void {
    this.steps++;
    this.rows += rows;
    const at = STEP_BOUNDS_MS.findIndex((bound) => milliseconds <= bound);
    this.stepMs.counts[at < 0 ? STEP_BOUNDS_MS.length : at]!++;
    this.stepMs.sum += milliseconds;
  }
}
