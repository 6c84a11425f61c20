/**
 * Pre-tokenizers in a form that the JavaScript library cuts exactly as the Rust reference does.
 *
 * Its regular expressions are JavaScript's, where \s holds U+FEFF but not U+0085 and \d is ASCII;
 * the reference goes by Unicode's White_Space and numbers of all scripts. It also takes every
 * `behavior` of a split for "Isolated". Character classes are spelled out here, and what cannot be
 * expressed is refused by name.
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

/** Rewrites escapes whose meaning differs; the others mean the same in both. */
function exactRegex(source: string): string {
  return source.replace(/\\(.)/gsu, (whole, letter: string) => {
    switch (letter) {
      case 's':
        return String.raw`\p{White_Space}`;
      case 'S':
        return String.raw`\P{White_Space}`;
      case 'd':
        return String.raw`\p{Nd}`;
      case 'D':
        return String.raw`\P{Nd}`;
      case 'w':
      case 'W':
      case 'b':
      case 'B':
        throw refuse(`pattern with \\${letter}`);
      default:
        return whole;
    }
  });
}

const isolated = (regex: string) => ({ type: 'Split', pattern: { Regex: exactRegex(regex) }, behavior: 'Isolated', invert: false });

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
      return 'Regex' in c.pattern ? { ...c, pattern: { Regex: exactRegex(c.pattern.Regex) } } : c;
    case 'Metaspace':
      return c;
    case 'Sequence':
      return { ...c, pretokenizers: c.pretokenizers.map((step) => exactPreTokenizer(step, dropped)) };
    default:
      return c satisfies never;
  }
}
