/** Parts of request schemas that the APIs share: fields that are refused by name unless they ask for nothing. */
import { z } from 'zod';

/** An issue that the edge reports as `unsupported` rather than malformed. */
export const refuse = (ctx: z.RefinementCtx, message: string, path: PropertyKey[] = []) =>
  ctx.addIssue({ code: 'custom', path, message, params: { unsupported: true } });

/** A field that is not honoured: only values which ask for nothing pass. */
export const onlyNeutral = (name: string, isNeutral: (value: unknown) => boolean = () => false) =>
  z
    .unknown()
    .optional()
    .superRefine((value, ctx) => {
      if (value !== undefined && value !== null && !isNeutral(value)) {
        refuse(ctx, `${name} is not supported here: leave it out${describe(value)}.`);
      }
    })
    .transform((): undefined => undefined);

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? '';
  return text.length <= 40 ? ` (got ${text})` : '';
}

export const equals =
  (...accepted: unknown[]) =>
  (value: unknown) =>
    accepted.includes(value);

export const isEmpty = (value: unknown) => typeof value === 'object' && value !== null && Object.keys(value).length === 0;

/** Levels of JSON in a request. Whoever walks it, here or at a worker, does so by recursion. */
export const MOST_DEPTH = 128;

export const isShallow = (value: unknown, levels = MOST_DEPTH): boolean =>
  typeof value !== 'object' || value === null || (levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1)));

/** The one type of a tagged object that is honoured; `what` in the plural. */
export const onlyType = (honoured: string, what: string) =>
  z.string().superRefine((type, ctx) => {
    if (type !== honoured) refuse(ctx, `${what} of type ${JSON.stringify(type.slice(0, 40))} are not supported: only "${honoured}" is`);
  });

/** What is asked of OpenAI's tiers: `flex` waits for idle capacity at a lower price; `auto` is `default` here. */
export const ServiceTier = z
  .enum(['auto', 'default', 'flex', 'scale', 'priority'])
  .superRefine((tier, ctx) => {
    if (tier === 'scale' || tier === 'priority')
      refuse(ctx, `service_tier "${tier}" is not supported here: only "auto", "default" and "flex" are`);
  })
  .transform((tier) => (tier === 'flex' ? 'flex' : 'default'));

/** The tier that served a request. */
export const ServedTier = z.enum(['default', 'flex']);

/** A request's or an object's own notes, in OpenAI's bounds: 16 pairs, keys of 64 and values of 512 characters. */
export const Metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, 'expected at most 16 pairs');
