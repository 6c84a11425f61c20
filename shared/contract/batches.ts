/** OpenAI's batches: many requests in one file, answered within a day in files, at batch priority and price. */
import { z } from 'zod';
import { Metadata, refuse } from './fields.ts';
import { Lifetime } from './files.ts';
import { ResponseUsage } from './responses.ts';

const count = z.number().int().nonnegative();

export const BATCH_ENDPOINTS = ['/v1/chat/completions', '/v1/completions', '/v1/responses', '/v1/embeddings'] as const;
const Endpoint = z.enum(BATCH_ENDPOINTS);
export type BatchEndpoint = z.infer<typeof Endpoint>;

const isEndpoint = (value: string): value is BatchEndpoint => (BATCH_ENDPOINTS as readonly string[]).includes(value);

export const CreateBatch = z.strictObject({
  input_file_id: z.string().min(1).max(100),
  endpoint: z
    .string()
    .superRefine((value, ctx) => {
      if (!isEndpoint(value))
        refuse(ctx, `batches over ${JSON.stringify(value.slice(0, 60))} are not supported: expected ${BATCH_ENDPOINTS.join(', ')}`);
    })
    .pipe(Endpoint),
  completion_window: z.literal('24h'),
  metadata: Metadata.nullish(),
  /** Of the files with answers; without it they are kept. */
  output_expires_after: z.strictObject({ anchor: z.literal('created_at'), seconds: Lifetime }).nullish(),
});
export type CreateBatch = z.infer<typeof CreateBatch>;

/** One line of the input file. What its body asks for is checked when its turn comes. */
export const BatchRequest = z.strictObject({
  custom_id: z.string().min(1).max(512),
  method: z.literal('POST'),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

const BatchError = z.strictObject({ code: z.string(), message: z.string(), param: z.string().nullable(), line: count.nullable() });
export type BatchError = z.infer<typeof BatchError>;

export const BatchStatus = z.enum(['validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled']);
export type BatchStatus = z.infer<typeof BatchStatus>;

const time = count.nullable();

export const Batch = z.strictObject({
  id: z.string(),
  object: z.literal('batch'),
  endpoint: Endpoint,
  errors: z.strictObject({ object: z.literal('list'), data: z.array(BatchError) }).nullable(),
  input_file_id: z.string(),
  completion_window: z.literal('24h'),
  status: BatchStatus,
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  /** Seconds since the epoch, all of them. */
  created_at: count,
  in_progress_at: time,
  expires_at: count,
  finalizing_at: time,
  completed_at: time,
  failed_at: time,
  expired_at: time,
  cancelling_at: time,
  cancelled_at: time,
  request_counts: z.strictObject({ total: count, completed: count, failed: count }),
  /** Of the requests that were answered. */
  usage: ResponseUsage,
  metadata: z.record(z.string(), z.string()).nullable(),
});
export type Batch = z.infer<typeof Batch>;

/** One line of an output file, or of an error file: what was answered, or why nothing was. */
export const BatchAnswer = z.strictObject({
  id: z.string(),
  custom_id: z.string(),
  response: z.strictObject({ status_code: count, request_id: z.string(), body: z.unknown() }).nullable(),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
});
export type BatchAnswer = z.infer<typeof BatchAnswer>;
