/**
 * The tokenizer of a GGUF file: its metadata lists rearranged into the tokenizer.json that
 * Hugging Face's converter had read them from.
 */
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { TokenizerSource } from './source.ts';

const byteLevel = (useRegex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex });
const singleDigits = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel(true)] };

/** By `tokenizer.ggml.pre`, the name that llama.cpp gives to a way of cutting text before merging. */
const PRE_TOKENIZERS: ReadonlyMap<string, object> = new Map<string, object>([
  ['gpt-2', byteLevel(true)],
  ['smollm', singleDigits],
  ['starcoder', singleDigits],
  ['refact', singleDigits],
  ['command-r', singleDigits],
]);

/** GGML's token types: control tokens are special, user-defined ones are matched whole but are ordinary text. */
const CONTROL = 3;
const USER_DEFINED = 4;

const tokenId = z.number().int().nonnegative().optional();
const Metadata = z.object({
  'tokenizer.ggml.model': z.literal('gpt2'),
  'tokenizer.ggml.pre': z.string().default('default'),
  'tokenizer.ggml.tokens': z.array(z.string()).min(1),
  'tokenizer.ggml.token_type': z.array(z.number().int()).optional(),
  'tokenizer.ggml.merges': z.array(z.string()),
  'tokenizer.ggml.bos_token_id': tokenId,
  'tokenizer.ggml.eos_token_id': tokenId,
  'tokenizer.ggml.unknown_token_id': tokenId,
  'tokenizer.ggml.padding_token_id': tokenId,
  'tokenizer.ggml.add_bos_token': z.boolean().default(false),
  'tokenizer.ggml.add_eos_token': z.literal(false).optional(),
  'tokenizer.chat_template': z.string().optional(),
});

/** null when the file has no tokenizer. `path` is for messages. */
export function tokenizerFromGguf(path: string, metadata: Readonly<Record<string, unknown>>, vocabSize: number): TokenizerSource | null {
  const refuse = (kind: 'unsupported' | 'invalid_request', what: string) => new Failure({ kind, message: `open base ${path}: ${what}` });
  const model = metadata['tokenizer.ggml.model'];
  if (model === undefined || model === 'no_vocab' || model === 'none') return null;
  const parsed = Metadata.safeParse(metadata);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const kind = issue.code === 'invalid_value' ? 'unsupported' : 'invalid_request';
    throw refuse(kind, `metadata ${issue.path.join('.')}: ${issue.message}, got ${JSON.stringify(metadata[String(issue.path[0])])}`);
  }
  const m = parsed.data;
  const tokens = m['tokenizer.ggml.tokens'];
  const types = m['tokenizer.ggml.token_type'] ?? [];
  if (tokens.length > vocabSize) throw refuse('invalid_request', `${tokens.length} tokens, the embedding has ${vocabSize} rows`);
  const preTokenizer = PRE_TOKENIZERS.get(m['tokenizer.ggml.pre']);
  if (!preTokenizer) {
    const known = [...PRE_TOKENIZERS.keys()].join(', ');
    throw refuse('unsupported', `pre-tokenizer "${m['tokenizer.ggml.pre']}" is not supported (supported: ${known})`);
  }
  const named = (key: string, id: number | undefined): Record<string, string> => {
    if (id === undefined) return {};
    const token = tokens[id];
    if (token === undefined) throw refuse('invalid_request', `${key} ${id} is outside the ${tokens.length} tokens`);
    return { [key]: token };
  };
  const bos = named('bos_token', m['tokenizer.ggml.bos_token_id']);
  return {
    tokenizerJson: {
      version: '1.0',
      added_tokens: tokens.flatMap((content, id) => {
        const special = types[id] === CONTROL;
        if (!special && types[id] !== USER_DEFINED) return [];
        return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
      }),
      normalizer: null,
      pre_tokenizer: preTokenizer,
      post_processor: m['tokenizer.ggml.add_bos_token'] ? prefixed(bos['bos_token'], m['tokenizer.ggml.bos_token_id'], refuse) : null,
      decoder: byteLevel(true),
      model: {
        type: 'BPE',
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: m['tokenizer.ggml.merges'].map((line) => splitMerge(line, refuse)),
      },
    },
    tokenizerConfig: {
      ...bos,
      ...named('eos_token', m['tokenizer.ggml.eos_token_id']),
      ...named('unk_token', m['tokenizer.ggml.unknown_token_id']),
      ...named('pad_token', m['tokenizer.ggml.padding_token_id']),
      ...(m['tokenizer.chat_template'] === undefined ? {} : { chat_template: m['tokenizer.chat_template'] }),
      clean_up_tokenization_spaces: false,
    },
  };
}

type Refuse = (kind: 'unsupported' | 'invalid_request', what: string) => Failure;

/** Byte-level tokens hold no space, so the only one parts the pair. */
function splitMerge(line: string, refuse: Refuse): [string, string] {
  const [left, right, ...rest] = line.split(' ');
  if (!left || !right || rest.length > 0) throw refuse('invalid_request', `merge ${JSON.stringify(line)}: expected two tokens`);
  return [left, right];
}

/** Puts the beginning-of-text token before every text. */
function prefixed(token: string | undefined, id: number | undefined, refuse: Refuse): object {
  if (token === undefined) throw refuse('invalid_request', 'add_bos_token is set without bos_token_id');
  return {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
