/**
 * The engine's interface inside the gpu-worker: what server code may ask of the engine thread and
 * what comes back. Plain data only, since it crosses a MessagePort.
 */
import type { AdapterRef, BaseInfo } from './worker.ts';

export interface SamplingOptions {
  temperature: number;
  topP: number;
  /** 0: off. */
  topK: number;
  /** Tokens less likely than this share of the likeliest are never drawn; 0: off. */
  minP: number;
  /** Subtracted from a token's logit for each time it was generated, and once if it was (OpenAI's formula); 0: off. */
  frequencyPenalty: number;
  presencePenalty: number;
  /** CTRL's (arXiv:1909.05858): logits of tokens seen in prompt or completion are divided by it, or multiplied when negative; 1: off. */
  repetitionPenalty: number;
  /** Added to logits: [token id, bias]. */
  logitBias: [number, number][];
  /** null: the engine draws one. Sequence i of a request uses an independent stream of the same seed. */
  seed: number | null;
  /** null: up to the end of the context. */
  maxTokens: number | null;
  stop: string[];
  ignoreEos: boolean;
  /** Alternatives per token; null: no logprobs. */
  logprobs: number | null;
  /** Report the prompt's own tokens (with logprobs, if asked for) before the first generated one. */
  echo: boolean;
}

/** What the generated text must match; compiled once and cached by content. */
export type Grammar =
  | { kind: 'json_object' }
  /** `schema`: JSON text of a JSON Schema. */
  | { kind: 'json_schema'; schema: string }
  /** xgrammar's structural tags (JSON text), for tool calls inside free text. */
  | { kind: 'structural_tag'; tag: string };

/** Who is served before whom: batch work only gets what interactive work leaves. */
export type Priority = 'interactive' | 'batch';

/** What every request says, whatever becomes of its prompts. */
export interface EngineWork {
  id: string;
  /** Opaque to the engine; written to its journal so that a crash loses nothing of the bill. */
  account: { tenant: string; keyId: string; model: string; fromBatch: boolean };
  priority: Priority;
  /** Share of the machine under contention, relative to other tenants'. */
  tenantWeight: number;
  /** Milliseconds since the epoch after which nobody waits any more: what has not begun by then ends as 'expired'; null: none. */
  deadline: number | null;
  base: string;
  prompts: number[][];
  /** Digests must have been made resident with `load` and are held until the request ends. */
  adapters: AdapterRef[];
}

/** One HTTP request: a batch of prompts, each continued n times. Sequence index = prompt index · n + choice. */
export interface EngineRequest extends EngineWork {
  n: number;
  sampling: SamplingOptions;
  /** null: any text. */
  grammar: Grammar | null;
}

export interface TokenLogprob {
  id: number;
  logprob: number;
  /** Best first; may lack `id` itself. */
  top: { id: number; logprob: number }[];
}

/** Events arrive grouped by step, in order. */
export type EngineEvent =
  /** Echo: the prompt of one sequence. logprobs[0] is null; present only if asked for. */
  | { type: 'prompt'; sequence: number; ids: number[]; text: string; logprobs: (TokenLogprob | null)[] | null }
  /** Newly committed tokens. `text` is what may be shown now; text that could still become a stop string or half a character is held back. */
  | { type: 'tokens'; sequence: number; ids: number[]; text: string; logprobs: TokenLogprob[] | null }
  /** `text` is what had been held back. */
  | { type: 'finish'; sequence: number; reason: 'stop' | 'length' | 'cancelled'; text: string }
  /** Last event of a request. Counts are what the engine committed. */
  | {
      type: 'done';
      usage: { promptTokens: number; cachedTokens: number; completionTokens: number };
      outcome: 'finished' | 'cancelled' | 'failed' | 'expired';
      error?: string;
      /** Milliseconds from submission to the first row and to the first token; absent for what never came. */
      queuedMs?: number;
      firstTokenMs?: number;
    };

/** Of a request whose prompts become vectors, by the base's pooling, of length 1. */
export type EmbeddingEvent =
  | { type: 'embedding'; prompt: number; values: Float32Array<ArrayBuffer> }
  | Extract<EngineEvent, { type: 'done' }>;

/** What a histogram needs: how many observations lay at or below each bound and above all of them, and their sum. */
export interface Distribution {
  bounds: number[];
  counts: number[];
  sum: number;
}

/** Present state, then counts since the engine started. */
export interface EngineStats {
  /** Sequences that run, and those of them whose prompt is being computed. */
  active: number;
  prefilling: number;
  /** Sequences that wait, and those of them with batch priority. */
  queued: number;
  queuedBatch: number;
  /** Sequences that may run at once. */
  slots: number;
  sessions: number;
  baseBytes: number;
  kvBytes: number;
  /** Pages of the KV pool: all, those that sequences hold, and those kept for the prefix cache alone. */
  kvPages: number;
  kvPagesHeld: number;
  kvPagesCached: number;
  residentAdapters: number;
  residentAdapterBytes: number;
  steps: number;
  /** Milliseconds of each step. */
  stepMs: Distribution;
  /** Rows of all steps: by steps, the mean batch. */
  rows: number;
  /** Prompt and completion tokens that were committed. */
  tokens: number;
  generatedTokens: number;
  /** Prompt tokens that were computed, again after a preemption included, and those that were found in the prefix cache. */
  prefilledTokens: number;
  cachedTokens: number;
  preemptions: number;
  /** Tokens that prompt lookup proposed, and those of them that the model said too. */
  draftedTokens: number;
  acceptedTokens: number;
}

/** Implemented by engine/client.ts on the main thread. */
export interface Engine {
  readonly base: BaseInfo;
  /** Makes an adapter resident; idempotent by digest. The image (gpu-worker/models/adapter-image.ts) was checked and is handed over. */
  load(digest: string, image: ArrayBuffer): Promise<void>;
  isResident(digest: string): boolean;
  /** Drops an adapter from the host tier once no running row uses it. */
  unload(digest: string): Promise<void>;
  /**
   * Compiles a grammar, to be awaited before requests that follow it. Throws Failure 'invalid_request' or 'unsupported' naming
   * what of it cannot be honoured, 'rate_limited' when too many of the tenant's wait.
   */
  prepareGrammar(grammar: Grammar, tenant: string): Promise<void>;
  /** Queues a request. Throws Failure 'rate_limited' when the queue is full, 'invalid_request' when a prompt does not fit the context. */
  submit(request: EngineRequest, onEvents: (events: EngineEvent[]) => void): { cancel(): void };
  /** As `submit`, on a base whose task it is to embed. */
  embed(request: EngineWork, onEvents: (events: EmbeddingEvent[]) => void): { cancel(): void };
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}
