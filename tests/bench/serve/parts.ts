/** What the parts of the serve benchmark share. */
import type { BenchBase } from '../support/base.ts';
import type { Options } from '../support/options.ts';
import type { Random } from '../support/random.ts';
import type { Report } from '../support/report.ts';
import type { BenchStack } from '../support/stack.ts';

export const PROMPT_TOKENS = 128;
export const GENERATED = 64;

export interface Bench {
  stack: BenchStack;
  base: BenchBase;
  precision: string;
  /** Names of the uploaded adapters; number i was made from seed i. */
  adapters: string[];
  options: Options;
  random: Random;
  report: Report;
}
