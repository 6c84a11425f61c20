/** OpenAI's embeddings: texts, or token ids as they are, each of which becomes one vector of length 1. */
import { z } from 'zod';
import { MixtureEntry, MODEL } from './openai.ts';
import { MAX_EMBEDDING_INPUTS, Receipt } from './worker.ts';

const count = z.number().int().nonnegative();
const many = <T extends z.ZodType>(item: T) => z.array(item).min(1).max(MAX_EMBEDDING_INPUTS);
const Text = z.string().min(1);
const Ids = z.array(count).min(1);

const Input = z.union([Text, many(Text), Ids, many(Ids)], {
  error: `expected a string, an array of up to ${MAX_EMBEDDING_INPUTS} strings, an array of token ids, or an array of up to ${MAX_EMBEDDING_INPUTS} arrays of token ids, none of them empty`,
});

export const EmbeddingsRequest = z.strictObject({
  model: MODEL,
  input: Input,
  encoding_format: z.enum(['float', 'base64']).nullish(),
  /** Leading numbers of each vector, scaled to length 1 again. */
  dimensions: z.number().int().positive().nullish(),
  adapters: z.array(MixtureEntry).min(1).max(8).nullish(),
  /** Says who the end user is; has no influence on the answer. */
  user: z.string().nullish(),
});
export type EmbeddingsRequest = z.infer<typeof EmbeddingsRequest>;

export const Embeddings = z.strictObject({
  object: z.literal('list'),
  data: z.array(
    z.strictObject({
      object: z.literal('embedding'),
      index: count,
      /** base64: float32 numbers, little-endian. */
      embedding: z.union([z.array(z.number()), z.string()]),
    }),
  ),
  model: z.string(),
  usage: z.strictObject({ prompt_tokens: count, total_tokens: count }),
  switchyard: Receipt,
});
export type Embeddings = z.infer<typeof Embeddings>;

/** One entry for each vector. */
export function toInputs(input: EmbeddingsRequest['input']): (string | number[])[] {
  if (typeof input === 'string') return [input];
  return input.some((item) => typeof item === 'number') ? [input as number[]] : (input as (string | number[])[]);
}
