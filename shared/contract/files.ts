/** OpenAI's files: what a tenant uploads for jobs, and what jobs write for the tenant. */
import { z } from 'zod';

const count = z.number().int().nonnegative();

/** What a tenant may upload files for. */
const UPLOADS = ['batch', 'fine-tune'] as const;
export const FilePurpose = z.enum([...UPLOADS, 'batch_output']);
export type FilePurpose = z.infer<typeof FilePurpose>;

const UploadPurpose = z.string().superRefine((value, ctx) => {
  if ((UPLOADS as readonly string[]).includes(value)) return;
  const message = `purpose ${JSON.stringify(value.slice(0, 60))} is not supported: expected ${UPLOADS.join(' or ')}`;
  ctx.addIssue({ code: 'custom', message, params: { unsupported: true } });
});

/** An hour to thirty days, as at OpenAI. */
const LIFETIME = { least: 3600, most: 30 * 86_400 };
export const Lifetime = z.number().int().min(LIFETIME.least).max(LIFETIME.most);

/** Form fields of an upload, beside the file. */
export const FileFields = z
  .strictObject({
    purpose: UploadPurpose.pipe(z.enum(UPLOADS)),
    'expires_after[anchor]': z.literal('created_at').optional(),
    'expires_after[seconds]': z
      .string()
      .regex(/^\d{1,9}$/, 'expected whole seconds')
      .transform(Number)
      .pipe(Lifetime)
      .optional(),
  })
  .superRefine((fields, ctx) => {
    if ((fields['expires_after[anchor]'] === undefined) === (fields['expires_after[seconds]'] === undefined)) return;
    ctx.addIssue({ code: 'custom', path: ['expires_after'], message: 'expected both anchor and seconds, or neither' });
  });

export const FileObject = z.strictObject({
  id: z.string(),
  object: z.literal('file'),
  bytes: count,
  /** Seconds since the epoch. */
  created_at: count,
  expires_at: count.nullable(),
  filename: z.string(),
  purpose: FilePurpose,
  status: z.literal('processed'),
  status_details: z.null(),
});
export type FileObject = z.infer<typeof FileObject>;

export const FileDeleted = z.strictObject({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) });

const Limit = (most: number, fallback: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/, 'expected a whole number')
    .transform(Number)
    .pipe(z.number().min(1).max(most))
    .default(fallback);

export const FileQuery = z.strictObject({
  after: z.string().optional(),
  limit: Limit(10_000, 10_000),
  order: z.enum(['asc', 'desc']).default('desc'),
  purpose: z.string().optional(),
});
export type FileQuery = z.infer<typeof FileQuery>;

/** Of a list that is read page by page. */
export const pageOf = (item: z.ZodType) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });

export const PageQuery = z.strictObject({ after: z.string().optional(), limit: Limit(100, 20) });
export type PageQuery = z.infer<typeof PageQuery>;

/** `rows` holds one more than `limit` when there are more. */
export function toPage<T extends { id: string }>(rows: T[], limit: number) {
  const data = rows.slice(0, limit);
  return { object: 'list' as const, data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more: rows.length > limit };
}
