/**
 * Strict JSON for untrusted files: RFC 8259 in valid UTF-8, bounded in size and depth.
 *
 * Differs from JSON.parse where that is lenient and two readers of one file could disagree:
 * a key given twice is refused, and so is a number that no double holds (1e400, or an integer
 * beyond 2^53). NaN and Infinity, which Python writes, are not JSON. Objects come back as Maps,
 * which keep the order of the file and have no prototype to pollute.
 */
import type { AdapterFinding } from '../errors.ts';
import { quote, refusal } from './findings.ts';

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export type JsonObject = ReadonlyMap<string, JsonValue>;

export const isJsonObject = (value: JsonValue | undefined): value is JsonObject => value instanceof Map;

export interface JsonSource {
  file: string;
  /** Under which code a refusal is reported: the file's role, not JSON's, is what the tenant can act on. */
  code: AdapterFinding['code'];
  maxBytes: number;
  maxDepth: number;
}

/** Throws a refusal that names the file and the position of the first fault. */
export function parseJson(bytes: Uint8Array, source: JsonSource): JsonValue {
  const { file, code, maxBytes, maxDepth } = source;
  const refuse = (message: string, more: { expected?: string; got?: string } = {}) =>
    refusal(code, `${file}: ${message}`, { file, ...more });
  if (bytes.byteLength > maxBytes) {
    throw refuse('JSON is too large', { expected: `at most ${maxBytes} bytes`, got: `${bytes.byteLength}` });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refuse('JSON is not valid UTF-8');
  }
  return new Parser(text, maxDepth, refuse).document();
}

type Refuse = (message: string) => Error;

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
/** Up to the closing quote. Escapes are checked by JSON.parse on the slice. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these in a string
const STRING = /"[^"\\\u0000-\u001f]*(?:\\[^\u0000-\u001f][^"\\\u0000-\u001f]*)*"/y;
const WORDS = [
  ['true', true],
  ['false', false],
  ['null', null],
] as const;

class Parser {
  #at = 0;
  readonly #text: string;
  readonly #maxDepth: number;
  readonly #refuse: Refuse;

  constructor(text: string, maxDepth: number, refuse: Refuse) {
    this.#text = text;
    this.#maxDepth = maxDepth;
    this.#refuse = refuse;
  }

  document(): JsonValue {
    const value = this.#value(0);
    if (this.#at !== this.#text.length) throw this.#fault('the end');
    return value;
  }

  /** A value with the white space on both sides of it. */
  #value(depth: number): JsonValue {
    this.#space();
    const value = this.#bare(depth);
    this.#space();
    return value;
  }

  #bare(depth: number): JsonValue {
    const next = this.#text[this.#at];
    if (next === '{' || next === '[') {
      if (depth === this.#maxDepth) throw this.#refuse(`JSON is nested deeper than ${this.#maxDepth} levels at character ${this.#at}`);
      this.#at++;
      return next === '{' ? this.#object(depth + 1) : this.#array(depth + 1);
    }
    if (next === '"') return this.#string();
    for (const [word, value] of WORDS) if (this.#take(word)) return value;
    return this.#number();
  }

  #object(depth: number): JsonObject {
    const out = new Map<string, JsonValue>();
    this.#space();
    if (this.#take('}')) return out;
    do {
      this.#space();
      const key = this.#string();
      this.#space();
      if (!this.#take(':')) throw this.#fault('":"');
      if (out.has(key)) throw this.#refuse(`key ${quote(key)} is given twice`);
      out.set(key, this.#value(depth));
    } while (this.#take(','));
    if (!this.#take('}')) throw this.#fault('"," or "}"');
    return out;
  }

  #array(depth: number): JsonValue[] {
    const out: JsonValue[] = [];
    this.#space();
    if (this.#take(']')) return out;
    do out.push(this.#value(depth));
    while (this.#take(','));
    if (!this.#take(']')) throw this.#fault('"," or "]"');
    return out;
  }

  #string(): string {
    const match = this.#match(STRING);
    if (!match) throw this.#fault('a string');
    const raw = match[0];
    if (!raw.includes('\\')) return raw.slice(1, -1);
    try {
      return JSON.parse(raw) as string;
    } catch {
      throw this.#refuse(`invalid escape in the string that ends at character ${this.#at}`);
    }
  }

  #number(): number {
    const match = this.#match(NUMBER);
    if (!match) throw this.#fault('a value');
    const value = Number(match[0]);
    const isInteger = match[1] === undefined && match[2] === undefined;
    if (!Number.isFinite(value) || (isInteger && !Number.isSafeInteger(value))) {
      throw this.#refuse(`number ${quote(match[0])} does not fit a double`);
    }
    return value;
  }

  #space(): void {
    this.#match(SPACE);
  }

  #take(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match) this.#at += match[0].length;
    return match;
  }

  #fault(expected: string): Error {
    const got = this.#at < this.#text.length ? quote(this.#text.slice(this.#at, this.#at + 12)) : 'the end of the file';
    return this.#refuse(`not JSON: expected ${expected} at character ${this.#at}, got ${got}`);
  }
}
