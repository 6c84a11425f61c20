/** A vocabulary of every byte and some common pieces of JSON, and walks through a grammar by random tokens. */
import type { CompiledGrammar } from '@mlc-ai/web-xgrammar';
import { Compiler } from '../../../../gpu-worker/engine/grammar/compiler.ts';
import { packVocabulary } from '../../../../gpu-worker/engine/grammar/vocabulary.ts';
import { Random } from '../../../../gpu-worker/engine/sampling/random.ts';

const END = 0;
const PIECES = [
  '{"',
  '": ',
  '", "',
  '"}',
  '"]',
  '[{',
  ', ',
  'tr',
  'ue',
  'null',
  '10',
  '00',
  '-1',
  'the',
  'é',
  '😀',
  '\\n',
  '\\u',
  '\\\\',
  '}}',
];
const bytesOf = new TextEncoder();
const TOKENS = [
  new Uint8Array(),
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...PIECES.map((piece) => bytesOf.encode(piece)),
];

/**
 * Grammars do not tell overlong forms and halves of pairs from characters, and no real token begins one: bytes after
 * which some continuation would be ill-formed are left out of random texts.
 */
const RISKY = new Set([0xc0, 0xc1, 0xe0, 0xed, 0xf0, ...Array.from({ length: 12 }, (_, i) => 0xf4 + i)]);
const risky = (id: number) => TOKENS[id]!.length === 1 && RISKY.has(TOKENS[id]![0]!);

export const toyCompiler = () => Compiler.create(packVocabulary({ tokenBytes: (id) => TOKENS[id]! }, TOKENS.length, [END]));

/**
 * A text by random tokens out of those allowed: at first any, later mostly such as bring the text to its end. null: it
 * did not end in time, which an endless list of tokens may do.
 */
export async function randomText(compiler: Compiler, grammar: CompiledGrammar, seed: number): Promise<string | null> {
  const matcher = await compiler.matcher(grammar);
  const random = new Random(seed, 0);
  const text: number[] = [];
  try {
    for (let step = 0; step < 2000; step++) {
      const mask = await matcher.getNextTokenBitmask();
      const allowed = [...TOKENS.keys()].filter((id) => (mask[id >> 5]! >>> (id & 31)) & 1 && !risky(id));
      if (allowed.length === 0) throw new Error(`no token may follow ${textOf(text)}`);
      const closing = allowed.filter((id) => id === END || '"}]'.includes(String.fromCharCode(TOKENS[id]![0]!)));
      const among = closing.length > 0 && random.next() < step / 100 ? closing : allowed;
      const id = among[Math.floor(random.next() * among.length)]!;
      if (!matcher.acceptToken(id)) throw new Error(`an allowed token is not accepted after ${textOf(text)}`);
      if (id === END) return textOf(text);
      text.push(...TOKENS[id]!);
    }
    return null;
  } finally {
    matcher.dispose();
  }
}

/** Whether the grammar takes the whole text, token boundaries aside. */
export async function accepts(compiler: Compiler, grammar: CompiledGrammar, text: string): Promise<boolean> {
  const matcher = await compiler.matcher(grammar);
  try {
    for (const byte of bytesOf.encode(text)) if (!matcher.acceptToken(1 + byte)) return false;
    return matcher.acceptToken(END);
  } finally {
    matcher.dispose();
  }
}

const textOf = (bytes: readonly number[]): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
