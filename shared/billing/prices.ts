/**
 * The price table: the only place where a price is written. Amounts are integers of nano-USD
 * (1e-9 USD) for one token, so that no sum is ever rounded.
 */
import type { UsageRecord } from '../contract/worker.ts';

export interface Price {
  /** A prompt token that had to be computed. */
  prompt: number;
  /** A prompt token found in the prefix cache. */
  cachedPrompt: number;
  completion: number;
  /** On top, for each token of a request and each adapter it ran through. */
  adapterToken: number;
}

const PRICES: Record<string, Price> = {
  'SmolLM2-135M-Instruct': { prompt: 20, cachedPrompt: 5, completion: 60, adapterToken: 4 },
};

/** For a base that the table does not name. */
const OTHER_BASE: Price = { prompt: 50, cachedPrompt: 12, completion: 150, adapterToken: 10 };

export const CURRENCY = 'usd';

/** What batch work costs of the price, since it waits for idle capacity. */
const BATCH_SHARE = 0.5;

export function priceOf(base: string, priority: UsageRecord['priority']): Price {
  const price = Object.hasOwn(PRICES, base) ? PRICES[base]! : OTHER_BASE;
  switch (priority) {
    case 'interactive':
      return price;
    case 'batch':
      return {
        prompt: share(price.prompt),
        cachedPrompt: share(price.cachedPrompt),
        completion: share(price.completion),
        adapterToken: share(price.adapterToken),
      };
    default:
      return priority satisfies never;
  }
}

/** Rounded down: never more than the share that was promised. */
const share = (nano: number): number => Math.floor(nano * BATCH_SHARE);
