/**
 * The tokenizer of a GGUF file: its metadata lists rearranged into the tokenizer.json that
 * Hugging Face's converter had read them from.
 */
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { TokenizerSource } from './source.ts';

const byteLevel = (useRegex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex });
const singleDigits = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel(true)] };

/** Words, runs of at most `digits` digits, runs of other characters, line breaks and spaces. */
const words = (digits: string) => ({
  type: 'Sequence',
  pretokenizers: [
    {
      type: 'Split',
      pattern: {
        Regex: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
      },
      behavior: 'Isolated',
      invert: false,
    },
    byteLevel(false),
  ],
});

interface Splitting {
  preTokenizer: object;
  normalizer?: object;
  /** Whether a piece that is a token as a whole is not put together from merges. */
  ignoresMerges?: boolean;
  /** What llama.cpp takes when the file does not say whether texts begin with the beginning-of-text token. */
  addsBos?: boolean;
}

/** By `tokenizer.ggml.pre`, the name that llama.cpp gives to a way of cutting text before merging. */
const SPLITTINGS: ReadonlyMap<string, Splitting> = new Map<string, Splitting>([
  ['gpt-2', { preTokenizer: byteLevel(true) }],
  ['smollm', { preTokenizer: singleDigits }],
  ['starcoder', { preTokenizer: singleDigits }],
  ['refact', { preTokenizer: singleDigits }],
  ['command-r', { preTokenizer: singleDigits }],
  ['qwen2', { preTokenizer: words('\\p{N}'), normalizer: { type: 'NFC' } }],
  ['llama-bpe', { preTokenizer: words('\\p{N}{1,3}'), ignoresMerges: true, addsBos: true }],
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
  'tokenizer.ggml.add_bos_token': z.boolean().optional(),
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
  const splitting = SPLITTINGS.get(m['tokenizer.ggml.pre']);
  if (!splitting) {
    const known = [...SPLITTINGS.keys()].join(', ');
    throw refuse('unsupported', `pre-tokenizer "${m['tokenizer.ggml.pre']}" is not supported (supported: ${known})`);
  }
  const named = (key: string, id: number | undefined): Record<string, string> => {
    if (id === undefined) return {};
    const token = tokens[id];
    if (token === undefined) throw refuse('invalid_request', `${key} ${id} is outside the ${tokens.length} tokens`);
    return { [key]: token };
  };
  const addsBos = m['tokenizer.ggml.add_bos_token'] ?? splitting.addsBos ?? false;
  const bos = named('bos_token', m['tokenizer.ggml.bos_token_id']);
  return {
    tokenizerJson: {
      version: '1.0',
      added_tokens: tokens.flatMap((content, id) => {
        const special = types[id] === CONTROL;
        if (!special && types[id] !== USER_DEFINED) return [];
        return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
      }),
      normalizer: splitting.normalizer ?? null,
      pre_tokenizer: splitting.preTokenizer,
      post_processor: addsBos ? prefixed(bos['bos_token'], m['tokenizer.ggml.bos_token_id'], refuse) : null,
      decoder: byteLevel(true),
      model: {
        type: 'BPE',
        ignore_merges: splitting.ignoresMerges ?? false,
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
