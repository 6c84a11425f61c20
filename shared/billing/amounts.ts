/** What a request costs, in integer nano-USD: before it runs (at most) and after (exactly). Pure. */
import type { UsageRecord } from '../contract/worker.ts';
import type { Price } from './prices.ts';

const TOKENS = ['prompt_token', 'cached_prompt_token', 'completion_token', 'adapter_token'] as const;
type Token = (typeof TOKENS)[number];
/** Batch work has units of its own: an invoice tells the two apart, line by line. */
export type Unit = Token | `batch_${Token}`;
export const UNITS: readonly Unit[] = [...TOKENS, ...TOKENS.map((token) => `batch_${token}` as const)];

/** One line of a bill: amount = quantity · price. */
export interface Charge {
  unit: Unit;
  quantity: number;
  priceNano: number;
}

type Counted = Pick<UsageRecord, 'prompt_tokens' | 'cached_tokens' | 'completion_tokens' | 'priority'> & {
  adapters: readonly unknown[];
};

/** Charges of a finished request; lines of quantity 0 are left out. Cached tokens are part of prompt_tokens. */
export function chargesOf(usage: Counted, price: Price): Charge[] {
  const cached = Math.min(usage.cached_tokens, usage.prompt_tokens);
  const tokens = usage.prompt_tokens + usage.completion_tokens;
  const unit = (token: Token): Unit => (usage.priority === 'batch' ? `batch_${token}` : token);
  const charges: Charge[] = [
    { unit: unit('prompt_token'), quantity: usage.prompt_tokens - cached, priceNano: price.prompt },
    { unit: unit('cached_prompt_token'), quantity: cached, priceNano: price.cachedPrompt },
    { unit: unit('completion_token'), quantity: usage.completion_tokens, priceNano: price.completion },
    { unit: unit('adapter_token'), quantity: tokens * usage.adapters.length, priceNano: price.adapterToken },
  ];
  return charges.filter((c) => c.quantity > 0);
}

export const amountOf = (charges: readonly Charge[]): number => charges.reduce((sum, c) => sum + c.quantity * c.priceNano, 0);

/** Bounds on a request's tokens, known before it runs. */
export interface Bounds {
  prompt: number;
  completion: number;
  adapters: number;
}

/** The most that a request within `bounds` can cost: nothing cached. */
export function ceilingOf(bounds: Bounds, price: Price): number {
  const { prompt, completion, adapters } = bounds;
  return prompt * price.prompt + completion * price.completion + (prompt + completion) * adapters * price.adapterToken;
}

export const NANO = 1_000_000_000;
/** So large an amount still fits an integer exactly, with room for sums. */
export const MAX_USD = 1_000_000;

/** USD as people write it → nano-USD. The caller has checked 0 … MAX_USD. */
export const nanoOfUsd = (usd: number): number => Math.round(usd * NANO);
