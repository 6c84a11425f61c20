/** The worker's environment, checked once at start. */
import { totalmem } from 'node:os';
import { z } from 'zod';
import { Failure } from '../shared/errors.ts';

const megabytes = z.coerce
  .number()
  .int()
  .positive()
  .transform((value) => value * 1_000_000);

/** Of the machine's memory, for adapters. */
const ADAPTER_MEMORY_SHARE = 0.15;
const LEAST_ADAPTER_MEMORY = 1_000_000_000;

const Environment = z.object({
  WORKER_PORT: z.coerce.number().int().min(0).max(65535),
  SWITCHYARD_HOME: z.string().min(1),
  /** Under which of the home's worker folders usage is kept. */
  SWITCHYARD_WORKER: z
    .string()
    .regex(/^[a-z0-9-]+$/)
    .default('worker-1'),
  SWITCHYARD_EDGE_URL: z.url(),
  /** How the edge reaches this worker; its loopback address when absent. */
  SWITCHYARD_WORKER_URL: z.url().optional(),
  SWITCHYARD_SECRET: z.string().min(16),
  SWITCHYARD_S3_SECRET: z.string().min(16),
  /** A GGUF file or a Hugging Face folder. */
  SWITCHYARD_BASE: z.string().min(1),
  SWITCHYARD_PRECISION: z.string().default('auto'),
  /** Sequences that run at once. */
  SWITCHYARD_ROWS: z.coerce.number().int().min(1).max(1024).optional(),
  /** Keys and values; a quarter of the machine's memory when absent. */
  SWITCHYARD_KV_MB: megabytes.optional(),
  /** How long a step may take while others wait for their next token, in milliseconds. */
  SWITCHYARD_STEP_MS: z.coerce.number().positive().optional(),
  /** Drafting of text that repeats itself, where it pays. */
  SWITCHYARD_SPECULATION: z.enum(['auto', 'off']).default('auto'),
  SWITCHYARD_PROVIDER: z.literal('cpu', 'expected cpu; other execution providers are not supported yet').default('cpu'),
  /** Adapter images in memory, and on disk. */
  SWITCHYARD_ADAPTER_MEMORY_MB: megabytes.default(Math.max(LEAST_ADAPTER_MEMORY, Math.round(totalmem() * ADAPTER_MEMORY_SHARE))),
  SWITCHYARD_ADAPTER_DISK_MB: megabytes.default(8_000_000_000),
});

export type Settings = z.infer<typeof Environment>;

export function readSettings(environment: NodeJS.ProcessEnv): Settings {
  const parsed = Environment.safeParse(environment);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const name = String(issue.path[0]);
  const got = /SECRET/.test(name) ? '' : `, got ${JSON.stringify(environment[name])}`;
  throw new Failure({ kind: 'invalid_request', message: `start worker: ${name}: ${issue.message}${got}` });
}
