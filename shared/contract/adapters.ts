/** Adapters as a tenant sees them. */
import { z } from 'zod';
import { AdapterName, Digest } from '../ids.ts';
import { AdapterCard } from './worker.ts';

/** One version of an adapter, as lists show it. */
export const AdapterSummary = z.strictObject({
  id: z.string(),
  object: z.literal('adapter'),
  name: AdapterName,
  version: z.number().int().positive(),
  digest: Digest,
  base: z.string(),
  status: z.literal('ready'),
  /** Size of the sealed form. */
  bytes: z.number().int().nonnegative(),
  /** A worker keeps it in memory. */
  pinned: z.boolean(),
  /** Seconds since the epoch. */
  created: z.number().int(),
});
export type AdapterSummary = z.infer<typeof AdapterSummary>;

export const Adapter = AdapterSummary.extend({ card: AdapterCard });
export type Adapter = z.infer<typeof Adapter>;

/** Of POST …/pin: without a version the pin follows the newest. `pinned: false` drops it, as DELETE does. */
export const PinRequest = z.strictObject({ pinned: z.boolean(), version: z.number().int().positive().nullish() });

/** Form fields of an upload, beside its files. */
export const UploadFields = z.strictObject({ name: AdapterName, base: z.string().min(1).max(256).optional() });
/** Of another version: the adapter and its base are known. */
export const VersionFields = z.strictObject({});
