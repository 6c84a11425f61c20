/** Tenants and their keys, as the administrator manages them. */
import { z } from 'zod';
import { MAX_USD } from '../billing/amounts.ts';

const Usd = z.number().min(0).max(MAX_USD);

const Name = z.string().min(1).max(200);

/** A tenant's share of a busy worker, relative to other tenants'. */
const Weight = z.number().min(0.01).max(1000);

export const CreateTenant = z.strictObject({
  name: Name,
  /** 1 without it. */
  weight: Weight.nullish(),
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

/** What is left out stays as it is. */
export const UpdateTenant = z
  .strictObject({ name: Name.optional(), weight: Weight.optional() })
  .refine(({ name, weight }) => name !== undefined || weight !== undefined, 'expected name or weight');

export const CreateKey = z.strictObject({ name: Name.nullish() });

export const Tenant = z.strictObject({
  id: z.string(),
  name: z.string(),
  weight: z.number(),
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
