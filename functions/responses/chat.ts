/** What is read of a worker's chat answer, whole or streamed, to make a response of it. */
import { z } from 'zod';
import { Logprob, type ResponseUsage } from '../../shared/contract/responses.ts';
import { Receipt } from '../../shared/contract/worker.ts';

const count = z.number().int().nonnegative();

export const ChatUsage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }).optional(),
});
const Logprobs = z.object({ content: z.array(Logprob).nullable() }).nullish();
const FinishReason = z.enum(['stop', 'length', 'tool_calls']);
export type FinishReason = z.infer<typeof FinishReason>;

export const ChatAnswer = z.object({
  choices: z
    .array(
      z.object({
        message: z.object({
          content: z.string().nullable(),
          tool_calls: z.array(z.object({ id: z.string(), function: z.object({ name: z.string(), arguments: z.string() }) })).optional(),
        }),
        logprobs: Logprobs,
        finish_reason: FinishReason,
      }),
    )
    .length(1),
  usage: ChatUsage,
  switchyard: Receipt,
});
export type ChatAnswer = z.infer<typeof ChatAnswer>;

/** One event of a stream. The choice's deltas come first, then the usage without a choice. */
export const ChatChunk = z.object({
  choices: z
    .array(
      z.object({
        delta: z.object({
          content: z.string().nullish(),
          tool_calls: z
            .array(
              z.object({
                index: count,
                id: z.string().optional(),
                function: z.object({ name: z.string().optional(), arguments: z.string().optional() }).optional(),
              }),
            )
            .optional(),
        }),
        logprobs: Logprobs,
        finish_reason: FinishReason.nullable(),
      }),
    )
    .max(1),
  usage: ChatUsage.nullish(),
  switchyard: Receipt.optional(),
});
export type ChatChunk = z.infer<typeof ChatChunk>;

/** A worker that breaks off says why in an event of this form. */
export const ChatBreak = z.object({ error: z.object({ message: z.string() }) });

export function toUsage(usage: z.infer<typeof ChatUsage>): ResponseUsage {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: usage.total_tokens,
  };
}
