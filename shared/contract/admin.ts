/** Tenants and their keys, as the administrator manages them. */
import { z } from 'zod';
import { MAX_USD } from '../billing/amounts.ts';

const Usd = z.number().min(0).max(MAX_USD);

export const CreateTenant = z.strictObject({
  name: z.string().min(1).max(200),
  /** Prepaid amount in USD; without it the tenant is billed afterwards. */
  credit: Usd.nullish(),
  /** Most that the tenant may spend in a calendar month (UTC), in USD. */
  budget: Usd.nullish(),
  limits: z
    .record(z.string(), z.unknown())
    .nullish()
    .superRefine((limits, ctx) => {
      for (const name of Object.keys(limits ?? {})) {
        ctx.addIssue({ code: 'custom', path: [name], message: `the limit "${name}" is not enforced here`, params: { unsupported: true } });
      }
    }),
});

export const CreateKey = z.strictObject({ name: z.string().min(1).max(200).nullish() });

export const Tenant = z.strictObject({
  id: z.string(),
  name: z.string(),
  credit: z.number().nullable(),
  budget: z.number().nullable(),
  created: z.number(),
});
export type Tenant = z.infer<typeof Tenant>;

export const Key = z.strictObject({
  id: z.string(),
  name: z.string(),
  created: z.number(),
  revoked: z.number().nullable(),
});
export type Key = z.infer<typeof Key>;
