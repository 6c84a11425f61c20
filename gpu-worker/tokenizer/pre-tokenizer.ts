/**
 * Pre-tokenizers in a form that the JavaScript library cuts exactly as the Rust reference does.
 *
 * The library translates the regular expression of a `Split` faithfully, but its built-in ones are
 * JavaScript's, where \s holds U+FEFF but not U+0085 and \d is ASCII; those are spelled out as
 * splits. It also takes every `behavior` of a split for "Isolated"; others are refused by name.
 */
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';

const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** `trim_offsets` only concerns offsets into the text, which nothing here asks for. */
const ByteLevel = z.strictObject({
  type: z.literal('ByteLevel'),
  add_prefix_space: z.literal(false).default(false),
  use_regex: z.boolean().default(true),
  trim_offsets: z.boolean().optional(),
});
const Digits = z.strictObject({ type: z.literal('Digits'), individual_digits: z.boolean().default(false) });
const Pattern = z.union([z.strictObject({ Regex: z.string() }), z.strictObject({ String: z.string() })]);
const Split = z.union([
  z.strictObject({ type: z.literal('Split'), pattern: Pattern, behavior: z.literal('Isolated'), invert: z.literal(false).default(false) }),
  z.strictObject({ type: z.literal('Split'), pattern: Pattern, behavior: z.literal('Removed'), invert: z.boolean().default(false) }),
]);
const Metaspace = z.looseObject({ type: z.literal('Metaspace') });
const Sequence = z.strictObject({ type: z.literal('Sequence'), pretokenizers: z.array(z.unknown()).max(16) });
const PreTokenizer = z.union([ByteLevel, Digits, Split, Metaspace, Sequence]);

const refuse = (what: string) => new Failure({ kind: 'unsupported', message: `open tokenizer: pre-tokenizer ${what} is not supported` });

const isolated = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });

const escaped = (char: string) => `\\u{${char.codePointAt(0)!.toString(16)}}`;

/**
 * The `pre_tokenizer` of a tokenizer.json, rewritten. `dropped`: characters of the byte-level
 * alphabet that the model leaves out for want of a token; they must go before merging, so that
 * what stood around them can merge, and the library would let them stand in between.
 */
export function exactPreTokenizer(config: unknown, dropped: readonly string[]): object | null {
  if (config === null || config === undefined) return null;
  const parsed = PreTokenizer.safeParse(config);
  if (!parsed.success) throw refuse(JSON.stringify(config).slice(0, 200));
  const c = parsed.data;
  switch (c.type) {
    case 'ByteLevel': {
      const steps: object[] = [{ type: 'ByteLevel', add_prefix_space: false, use_regex: false }];
      if (c.use_regex) steps.unshift(isolated(GPT2_WORDS));
      if (dropped.length > 0) steps.push({ type: 'Replace', pattern: { Regex: `[${dropped.map(escaped).join('')}]` }, content: '' });
      return { type: 'Sequence', pretokenizers: steps };
    }
    case 'Digits':
      return isolated(c.individual_digits ? String.raw`\p{N}` : String.raw`\p{N}+`);
    case 'Split':
    case 'Metaspace':
      return c;
    case 'Sequence':
      return { ...c, pretokenizers: c.pretokenizers.map((step) => exactPreTokenizer(step, dropped)) };
    default:
      return c satisfies never;
  }
}
