/** Identifiers: one place for their shapes, so that a key, a request or an adapter is recognisable anywhere. */
import { z } from 'zod';

/** Random lower-case base-36 text of `length` characters, unbiased, from the platform's CSPRNG. */
export function randomId(length: number): string {
  let out = '';
  while (out.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length * 2))) {
      if (byte < 252 && out.length < length) out += (byte % 36).toString(36);
    }
  }
  return out;
}

export const newRequestId = (): string => `req_${randomId(24)}`;
export const newTenantId = (): string => `ten_${randomId(16)}`;
export const newAdapterId = (): string => `adp_${randomId(16)}`;
export const newFileId = (): string => `file-${randomId(24)}`;
export const newBatchId = (): string => `batch_${randomId(24)}`;

/** SHA-256 as 64 lower-case hex digits. */
export const Digest = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 digest: 64 lower-case hex digits');
export const RequestId = z.string().regex(/^req_[0-9a-z]{24}$/);
export const TenantId = z.string().regex(/^ten_[0-9a-z]{16}$/);
/** A tenant's name for an adapter. Never a cache key: a name resolves to a digest once, at admission. */
export const AdapterName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,63}$/,
    'lower-case letters, digits, ".", "_" and "-", starting with a letter or digit, at most 64 characters',
  );

/** API keys: sy_<kind>_<id>_<secret>. `id` may be shown and logged, the secret never. */
export const ApiKey = z.string().regex(/^sy_(admin|tenant)_[0-9a-z]{12}_[0-9A-Za-z]{40}$/);
