/** The edge's side of the ledger: bounds on what a request can cost, and the hold for it. */
import { type Bounds, ceilingOf, NANO } from '../../shared/billing/amounts.ts';
import { priceOf } from '../../shared/billing/prices.ts';
import type { BaseInfo, GenerateRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';

export const ledgerOf = (env: Env, tenant: string) => env.LEDGER.get(env.LEDGER.idFromName(tenant));

/** Room for a chat template's own tokens: per request (a default system message) and per message. */
const TEMPLATE_TOKENS = 64;
const MESSAGE_TOKENS = 16;

/**
 * The most tokens a request can use. The edge has no tokenizer: with byte-level vocabularies a text has at
 * most as many tokens as bytes, and no sequence is longer than the base's context.
 */
export function boundsOf(request: Pick<GenerateRequest, 'input' | 'n' | 'max_tokens' | 'adapters'>, base: BaseInfo): Bounds {
  const context = base.context_length;
  const prompts = promptBounds(request.input).map((tokens) => Math.min(tokens, context));
  const each = Math.min(request.max_tokens ?? context, context);
  return {
    prompt: prompts.reduce((sum, tokens) => sum + tokens, 0),
    completion: each * request.n * prompts.length,
    adapters: request.adapters.length,
  };
}

function promptBounds(input: GenerateRequest['input']): number[] {
  const bytes = (text: string) => new TextEncoder().encode(text).byteLength;
  switch (input.kind) {
    case 'chat':
      return [input.messages.reduce((sum, m) => sum + bytes(m.content) + MESSAGE_TOKENS, TEMPLATE_TOKENS)];
    case 'completion':
      return input.prompts.map((p) => (typeof p === 'string' ? bytes(p) : p.length));
    default:
      return input satisfies never;
  }
}

/** Holds the request's ceiling at its tenant's ledger. Throws Failure 'quota_exhausted'. */
export async function reserve(env: Env, request: GenerateRequest, base: BaseInfo): Promise<void> {
  const bounds = boundsOf(request, base);
  const amountNano = ceilingOf(bounds, priceOf(request.base));
  const outcome = await ledgerOf(env, request.tenant).reserve(request.tenant, {
    requestId: request.request_id,
    amountNano,
    tokens: bounds.prompt + bounds.completion,
  });
  if (outcome.ok) return;
  const [left, needed] = [outcome.leftNano, amountNano].map((nano) => (nano / NANO).toFixed(9));
  const message = `You exceeded your current quota: the tenant's ${outcome.limit} has ${left} USD left and this request may cost up to ${needed} USD. Lower max_tokens, or have the ${outcome.limit} raised.`;
  throw new Failure({ kind: 'quota_exhausted', message });
}
