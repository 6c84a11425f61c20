/**
 * How many prompt tokens each sequence that is being prefilled gets in a step. Everybody's next token waits for the
 * step's end, so prompts share what the step's time leaves. Pure: the clock is an argument.
 */
import type { Priority } from '../../shared/contract/engine.ts';
import type { CostModel, StepWork } from './cost-model.ts';

/** Prefill always advances by this much, however dear a token is. */
export const LEAST_CHUNK = 16;
/** Bounds the activations of a step. */
export const LARGEST_CHUNK = 512;
/** While nobody decodes, only others' prompts and those who arrive meanwhile wait for a step's end. */
const NOBODY_DECODES = 3;
/** A lone prompt is cut as little as possible: each step costs as much again as some tokens do. */
const NOBODY_WAITS = 8;
/** Where decoding alone takes the whole time, prompts still get this much of what it takes, or they would come to a halt. */
const LEAST_SHARE = 0.5;
/** A sequence that shorter prompts kept from advancing for this long goes first. */
const PATIENCE_MS = 500;

export interface Prefill {
  priority: Priority;
  /** Tokens still to be computed. */
  remaining: number;
  /** Tokens computed. */
  past: number;
  /** The most tokens that one step may compute of it. */
  limit: number;
  /** When it last advanced, or was admitted. */
  advanced: number;
}

/**
 * Tokens for each of `prefills`, 0 for some. Interactive ones go before batch ones, shorter before longer: the time
 * to all first tokens is least that way. `decoding` is what the step does besides.
 */
export function planChunks(prefills: readonly Prefill[], decoding: StepWork, stepMs: number, model: CostModel, now: number): number[] {
  const chunks = prefills.map(() => 0);
  const overdue = (p: Prefill) => Number(now - p.advanced > PATIENCE_MS);
  const batch = (p: Prefill) => Number(p.priority === 'batch');
  const order = [...prefills.keys()].sort((i, j) => {
    const [a, b] = [prefills[i]!, prefills[j]!];
    return overdue(b) - overdue(a) || batch(a) - batch(b) || a.remaining - b.remaining || i - j;
  });
  const besides = model.milliseconds(decoding);
  const patience = prefills.length > 1 ? NOBODY_DECODES : NOBODY_WAITS;
  let left = decoding.decoding > 0 ? Math.max(stepMs - besides, besides * LEAST_SHARE) : stepMs * patience - besides;
  let room = LARGEST_CHUNK;
  for (const i of order) {
    const { remaining, past, limit: own } = prefills[i]!;
    const first = room === LARGEST_CHUNK;
    // Later tokens look back on more; the middle one is their mean.
    const each = model.promptToken(past + Math.min(remaining, room) / 2);
    const affordable = Math.max(first ? LEAST_CHUNK : 0, Math.floor(left / each));
    const chunk = Math.min(remaining, own, room, affordable);
    if (chunk <= 0) break;
    chunks[i] = chunk;
    left -= chunk * each;
    room -= chunk;
  }
  return chunks;
}
