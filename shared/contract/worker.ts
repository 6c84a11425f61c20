/**
 * What passes between the edge and a gpu-worker. Each body is JSON, sent under a token that binds
 * method, path and body (shared/contract/signature.ts). The worker refuses anything else.
 *
 *   edge → worker   POST /generate   GenerateRequest → OpenAI response body (JSON or SSE), made by the worker
 *                   POST /embed      EmbedRequest → OpenAI response body
 *                   POST /seal       SealRequest → SealResult, or an error in the wire form
 *                   POST /answer     RequestRef → what /generate answered to a batch's request, 202 while it runs, 404 if unknown
 *                   POST /cancel     RequestRef → 204; a batch's request outlives its connection
 *                   GET  /totals     → Totals
 *   worker → edge   POST /internal/heartbeat  Heartbeat → HeartbeatAnswer
 *                   POST /internal/usage      UsageReport → UsageAnswer
 */
import { z } from 'zod';
import { Digest, RequestId, TenantId } from '../ids.ts';

const count = z.number().int().nonnegative();

export const AdapterRef = z.strictObject({ digest: Digest, weight: z.number().min(-4).max(4) });
export type AdapterRef = z.infer<typeof AdapterRef>;

/** A function that the model called, or may call. `arguments` is JSON text, as at OpenAI. */
export const ToolCall = z.strictObject({ id: z.string(), name: z.string(), arguments: z.string() });
export type ToolCall = z.infer<typeof ToolCall>;
export const Tool = z.strictObject({
  name: z.string(),
  description: z.string().nullable(),
  /** JSON Schema of the arguments. */
  parameters: z.record(z.string(), z.unknown()),
  /** Arguments are held to the schema. */
  strict: z.boolean(),
});
export type Tool = z.infer<typeof Tool>;

export const ChatMessage = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal('system'), content: z.string(), name: z.string().optional() }),
  z.strictObject({ role: z.literal('user'), content: z.string(), name: z.string().optional() }),
  z.strictObject({
    role: z.literal('assistant'),
    content: z.string(),
    name: z.string().optional(),
    tool_calls: z.array(ToolCall).optional(),
  }),
  z.strictObject({ role: z.literal('tool'), content: z.string(), tool_call_id: z.string() }),
]);
export type ChatMessage = z.infer<typeof ChatMessage>;

/** What the whole answer must be. */
export const ResponseFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({ type: z.literal('json_schema'), schema: z.record(z.string(), z.unknown()), strict: z.boolean() }),
]);
export type ResponseFormat = z.infer<typeof ResponseFormat>;

export const ToolChoice = z.discriminatedUnion('type', [
  z.strictObject({ type: z.enum(['none', 'auto', 'required']) }),
  z.strictObject({ type: z.literal('function'), name: z.string() }),
]);
export type ToolChoice = z.infer<typeof ToolChoice>;

/** Who is served before whom: batch work only gets what interactive work leaves, at a lower price. */
export const Priority = z.enum(['interactive', 'batch']);

/** What admission says of any request: who asks, what its names mean, when it is to be served. */
const admitted = {
  request_id: RequestId,
  tenant: TenantId,
  key_id: z.string(),
  /** The `model` string as the client wrote it, echoed in the response. */
  model: z.string(),
  base: z.string(),
  base_revision: Digest,
  adapters: z.array(AdapterRef).max(8),
  priority: Priority,
  /** A request of /v1/batches: it outlives its connection, and its batch says whether it is paid. */
  from_batch: z.boolean(),
  /** The tenant's share of a busy worker, relative to other tenants'. */
  tenant_weight: z.number().gt(0).max(1000),
  /** Milliseconds since the epoch by which it must have begun to be of use; null: whenever. */
  deadline: count.nullable(),
};

/** A request after admission: names resolved, defaults filled in, every field honoured. */
export const GenerateRequest = z.strictObject({
  ...admitted,
  input: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('chat'),
      messages: z.array(ChatMessage).min(1),
      tools: z.array(Tool).max(128),
      tool_choice: ToolChoice,
      parallel_tool_calls: z.boolean(),
    }),
    z.strictObject({
      kind: z.literal('completion'),
      prompts: z
        .array(z.union([z.string(), z.array(count).min(1)]))
        .min(1)
        .max(128),
    }),
  ]),
  n: z.number().int().min(1).max(128),
  /** Choices to generate, of which the n likeliest by token are answered; at least n. */
  best_of: z.number().int().min(1).max(128),
  /** null: up to the end of the context. */
  max_tokens: count.nullable(),
  temperature: z.number().min(0).max(2),
  top_p: z.number().gt(0).max(1),
  /** 0: off. */
  top_k: count,
  min_p: z.number().min(0).max(1),
  frequency_penalty: z.number().min(-2).max(2),
  presence_penalty: z.number().min(-2).max(2),
  repetition_penalty: z.number().gt(0).max(10),
  logit_bias: z.array(z.tuple([count, z.number().min(-100).max(100)])).max(1024),
  response_format: ResponseFormat,
  seed: z.number().int().nullable(),
  stop: z.array(z.string().min(1)).max(16),
  ignore_eos: z.boolean(),
  /** How many alternatives to report per token; null: no logprobs at all. */
  logprobs: z.number().int().min(0).max(20).nullable(),
  echo: z.boolean(),
  return_token_ids: z.boolean(),
  stream: z.boolean(),
  include_usage: z.boolean(),
});
export type GenerateRequest = z.infer<typeof GenerateRequest>;

export const MAX_EMBEDDING_INPUTS = 2048;

/** A request for embeddings after admission. */
export const EmbedRequest = z.strictObject({
  ...admitted,
  inputs: z
    .array(z.union([z.string(), z.array(count).min(1)]))
    .min(1)
    .max(MAX_EMBEDDING_INPUTS),
  /** Leading numbers of each vector, scaled to length 1; null: all. */
  dimensions: z.number().int().positive().nullable(),
  /** base64: of float32 numbers, little-endian. */
  encoding_format: z.enum(['float', 'base64']),
});
export type EmbedRequest = z.infer<typeof EmbedRequest>;

export type WorkerRequest = GenerateRequest | EmbedRequest;

/** Names a request that was sent before. */
export const RequestRef = z.strictObject({ request_id: RequestId });
export type RequestRef = z.infer<typeof RequestRef>;

/** In every response body as `switchyard`; in a stream on the chunk that carries finish_reason. */
export const Receipt = z.strictObject({
  request_id: RequestId,
  base_revision: Digest,
  precision: z.string(),
  adapters: z.array(AdapterRef),
  worker: z.string(),
  prefix_cached_tokens: count,
});
export type Receipt = z.infer<typeof Receipt>;

/** An uploaded package, already in object storage under `key`s that only this tenant's uploads use. */
export const SealRequest = z.strictObject({
  tenant: TenantId,
  base: z.string(),
  files: z
    .array(z.strictObject({ name: z.string(), key: z.string(), bytes: count }))
    .min(1)
    .max(64),
});
export type SealRequest = z.infer<typeof SealRequest>;

/** What the adapter's card says; stored and shown as is. */
export const AdapterCard = z.strictObject({
  kind: z.string(),
  base: z.string(),
  base_revision: Digest,
  base_model_name_or_path: z.string().nullable(),
  /** Largest rank over the targets. */
  rank: count,
  parameters: count,
  targets: z.array(z.strictObject({ module: z.string(), rank: count, scale: z.number(), exactness: z.literal('exact') })),
  source: z.array(z.strictObject({ name: z.string(), bytes: count, sha256: Digest })),
});
export type AdapterCard = z.infer<typeof AdapterCard>;

export const SealResult = z.strictObject({ digest: Digest, bytes: count, key: z.string(), card: AdapterCard });
export type SealResult = z.infer<typeof SealResult>;

/** One finished HTTP request as the engine counted it. Settled exactly once by request_id. */
export const UsageRecord = z.strictObject({
  request_id: RequestId,
  tenant: TenantId,
  key_id: z.string(),
  model: z.string(),
  base: z.string(),
  base_revision: Digest,
  adapters: z.array(AdapterRef),
  /** Decides the price. Records of older workers lack it. */
  priority: Priority.default('interactive'),
  from_batch: z.boolean().default(false),
  prompt_tokens: count,
  cached_tokens: count,
  completion_tokens: count,
  /** Milliseconds since the epoch. */
  finished_at: count,
  outcome: z.enum(['finished', 'cancelled', 'failed', 'expired', 'crashed']),
});
export type UsageRecord = z.infer<typeof UsageRecord>;

export const UsageReport = z.strictObject({ worker: z.string(), records: z.array(UsageRecord).min(1).max(256) });
export type UsageReport = z.infer<typeof UsageReport>;
/** The request ids that are durable in the ledger now (also those it had before). */
export const UsageAnswer = z.strictObject({ settled: z.array(RequestId) });
export type UsageAnswer = z.infer<typeof UsageAnswer>;

/** What a base does with a text: continue it, or make a vector of it. */
export const Task = z.enum(['generate', 'embed']);
export type Task = z.infer<typeof Task>;

export const BaseInfo = z.strictObject({
  id: z.string(),
  revision: Digest,
  precision: z.string(),
  family: z.string(),
  /** Older workers do not say: theirs generate. */
  task: Task.default('generate'),
  context_length: count,
  vocab_size: count,
  has_tokenizer: z.boolean(),
  has_chat_template: z.boolean(),
});
export type BaseInfo = z.infer<typeof BaseInfo>;

export const Heartbeat = z.strictObject({
  worker: z.string(),
  url: z.string(),
  bases: z.array(BaseInfo),
  slots: count,
  active: count,
  queued: count,
  /** Names the list of pins that the worker has; null: none yet. */
  pins: z.string().nullable().default(null),
});
export type Heartbeat = z.infer<typeof Heartbeat>;
/** `pins`: the adapters that this worker is to keep in memory, null when its list is still true. */
export const HeartbeatAnswer = z.strictObject({
  interval_ms: count,
  pins: z.strictObject({ name: z.string(), digests: z.array(Digest) }).nullable(),
});
export type HeartbeatAnswer = z.infer<typeof HeartbeatAnswer>;

/** The engine's own count since its journal began, and what it has not yet seen settled. Prompt + completion tokens by tenant. */
export const Totals = z.strictObject({
  worker: z.string(),
  tenants: z.record(z.string(), z.strictObject({ engine_committed: count, outbox: count, running: count })),
});
export type Totals = z.infer<typeof Totals>;

/** Where sealed adapters live in object storage. Content addressed, so writing twice is harmless. */
export const sealedKey = (digest: string): string => `sealed/${digest}`;
/** Where the images that workers made of them lie, for one base in one precision. A cache: whatever is missing is made anew. */
export const imageKey = (form: string, digest: string): string => `images/${form}/${digest}`;
