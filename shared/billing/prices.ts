/**
 * The price table: the only place where a price is written. Amounts are integers of nano-USD
 * (1e-9 USD) for one token, so that no sum is ever rounded.
 */

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

export const priceOf = (base: string): Price => (Object.hasOwn(PRICES, base) ? PRICES[base]! : OTHER_BASE);
