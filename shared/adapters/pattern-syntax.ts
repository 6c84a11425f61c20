/**
 * Syntax of Python's `re` as far as module patterns use it, parsed to a tree.
 *
 * Constructs whose meaning depends on backtracking or captures (back references, possessive and
 * atomic groups, conditionals), inline flags and look-behind are refused by name: matching in
 * linear time (pattern.ts) cannot honour them, and no module pattern needs them.
 */
import { quote } from './findings.ts';

/** The pattern is not valid, not supported or too expensive; the message says which. */
export class PatternError extends Error {}

export type Assertion = 'start' | 'end' | 'wordBoundary' | 'notWordBoundary';
export interface CharSet {
  negated: boolean;
  /** Inclusive ranges of UTF-16 code units. */
  ranges: readonly (readonly [number, number])[];
}
export type PatternNode =
  | { kind: 'set'; set: CharSet }
  | { kind: 'sequence'; parts: PatternNode[] }
  | { kind: 'choice'; options: PatternNode[] }
  | { kind: 'repeat'; body: PatternNode; min: number; max: number }
  | { kind: 'assert'; assertion: Assertion }
  | { kind: 'lookahead'; body: PatternNode; negated: boolean };

const MAX_LENGTH = 4_000;
const MAX_REPEAT = 1_000;
/** Groups in groups: recursion of the parser and the compiler. */
const MAX_NESTING = 100;

type Ranges = readonly (readonly [number, number])[];
const LAST = 0xffff;
const code = (char: string): number => char.charCodeAt(0);
const DIGIT: Ranges = [[48, 57]];
export const WORD: Ranges = [...DIGIT, [65, 90], [95, 95], [97, 122]];
const SPACE: Ranges = [...([[9, 13]] as const), [28, 32]];
const complement = (ranges: Ranges): Ranges => {
  const out: [number, number][] = [];
  let from = 0;
  for (const [low, high] of ranges) {
    if (low > from) out.push([from, low - 1]);
    from = high + 1;
  }
  return [...out, [from, LAST]];
};
const CLASSES: ReadonlyMap<string, Ranges> = new Map([
  ['d', DIGIT],
  ['w', WORD],
  ['s', SPACE],
  ['D', complement(DIGIT)],
  ['W', complement(WORD)],
  ['S', complement(SPACE)],
]);
const CONTROLS: ReadonlyMap<string, number> = new Map(Object.entries({ n: 10, t: 9, r: 13, f: 12, v: 11, a: 7 }));
const ASSERTIONS: ReadonlyMap<string, Assertion> = new Map([
  ['A', 'start'],
  ['Z', 'end'],
  ['b', 'wordBoundary'],
  ['B', 'notWordBoundary'],
]);
const QUANTIFIER = /\*|\+|\?|\{(?:(\d+)(,)?(\d+)?|(,)(\d+)?)\}/y;

export function parsePattern(source: string): PatternNode {
  if (source.length > MAX_LENGTH) throw new PatternError(`longer than ${MAX_LENGTH} characters`);
  return new Parser(source).pattern();
}

class Parser {
  #at = 0;
  #depth = 0;
  readonly #source: string;
  constructor(source: string) {
    this.#source = source;
  }

  pattern(): PatternNode {
    const node = this.#choice();
    if (this.#at < this.#source.length) throw this.#fault('unbalanced ")"');
    return node;
  }

  #choice(): PatternNode {
    const options = [this.#sequence()];
    while (this.#take('|')) options.push(this.#sequence());
    return options.length === 1 ? options[0]! : { kind: 'choice', options };
  }

  #sequence(): PatternNode {
    const parts: PatternNode[] = [];
    while (this.#at < this.#source.length && this.#source[this.#at] !== '|' && this.#source[this.#at] !== ')') {
      if (this.#quantifier()) throw this.#fault('nothing to repeat');
      const atom = this.#atom();
      const times = this.#quantifier();
      if (times && atom.kind === 'assert') throw this.#fault('nothing to repeat');
      if (times && this.#take('+')) throw this.#fault('a possessive quantifier, which is not supported');
      // A lazy quantifier finds the same full matches.
      if (times) this.#take('?');
      if (times && this.#quantifier()) throw this.#fault('multiple repeat');
      parts.push(times ? { kind: 'repeat', body: atom, ...times } : atom);
    }
    return { kind: 'sequence', parts };
  }

  #atom(): PatternNode {
    const char = this.#source[this.#at++]!;
    switch (char) {
      case '(':
        return this.#group();
      case '[':
        return { kind: 'set', set: this.#class() };
      case '.':
        return { kind: 'set', set: { negated: true, ranges: [[10, 10]] } };
      case '^':
        return { kind: 'assert', assertion: 'start' };
      case '$':
        return { kind: 'assert', assertion: 'end' };
      case '\\': {
        const assertion = ASSERTIONS.get(this.#source[this.#at] ?? '');
        if (assertion) {
          this.#at++;
          return { kind: 'assert', assertion };
        }
        return { kind: 'set', set: { negated: false, ranges: this.#escape() } };
      }
      default:
        return { kind: 'set', set: { negated: false, ranges: [[code(char), code(char)]] } };
    }
  }

  /** After "(". */
  #group(): PatternNode {
    if (++this.#depth > MAX_NESTING) throw this.#fault(`groups nested deeper than ${MAX_NESTING}`);
    const lookahead = this.#take('?=') ? 'positive' : this.#take('?!') ? 'negative' : undefined;
    if (!lookahead && !this.#take('?:') && this.#source[this.#at] === '?') {
      const name = /\?P<[A-Za-z_]\w*>/y;
      name.lastIndex = this.#at;
      const match = name.exec(this.#source);
      if (!match) throw this.#fault(`the construct ${quote(`(${this.#source.slice(this.#at, this.#at + 3)}`)}, which is not supported`);
      this.#at += match[0].length;
    }
    const body = this.#choice();
    if (!this.#take(')')) throw this.#fault('missing ")"');
    this.#depth--;
    return lookahead ? { kind: 'lookahead', body, negated: lookahead === 'negative' } : body;
  }

  /** After "[". */
  #class(): CharSet {
    const negated = this.#take('^');
    const ranges: (readonly [number, number])[] = [];
    for (let first = true; first || this.#source[this.#at] !== ']'; first = false) {
      const low = this.#classItem();
      if (this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']') {
        this.#at++;
        const high = this.#classItem();
        const [from] = low[0]!;
        const [to] = high[0]!;
        if (low.length !== 1 || high.length !== 1 || low[0]![1] !== from || high[0]![1] !== to || from > to) {
          throw this.#fault('a bad character range');
        }
        ranges.push([from, to]);
      } else {
        ranges.push(...low);
      }
    }
    this.#at++;
    return { negated, ranges };
  }

  #classItem(): Ranges {
    const char = this.#source[this.#at++];
    if (char === undefined) throw this.#fault('an unterminated character set');
    if (char !== '\\') return [[code(char), code(char)]];
    return this.#take('b') ? [[8, 8]] : this.#escape();
  }

  /** After "\". */
  #escape(): Ranges {
    const char = this.#source[this.#at++];
    if (char === undefined) throw this.#fault('a bad escape at the end');
    const set = CLASSES.get(char);
    if (set) return set;
    const hex = char === 'x' ? /^[0-9A-Fa-f]{2}/.exec(this.#source.slice(this.#at))?.[0] : undefined;
    if (hex !== undefined) this.#at += 2;
    const single = hex === undefined ? CONTROLS.get(char) : Number.parseInt(hex, 16);
    if (single !== undefined) return [[single, single]];
    if (/[0-9]/.test(char)) throw this.#fault('a back reference or octal escape, which is not supported');
    if (/[A-Za-z]/.test(char)) throw this.#fault(`the escape ${quote(`\\${char}`)}, which is not supported`);
    return [[code(char), code(char)]];
  }

  /** `{` that opens no quantifier is an ordinary character, as in Python. */
  #quantifier(): { min: number; max: number } | undefined {
    QUANTIFIER.lastIndex = this.#at;
    const match = QUANTIFIER.exec(this.#source);
    if (!match) return undefined;
    this.#at += match[0].length;
    if (match[0] === '*') return { min: 0, max: Number.POSITIVE_INFINITY };
    if (match[0] === '+') return { min: 1, max: Number.POSITIVE_INFINITY };
    if (match[0] === '?') return { min: 0, max: 1 };
    const [, low, comma, high, openComma, openHigh] = match;
    const min = Number(low ?? 0);
    const bounded = high ?? openHigh;
    const max = bounded !== undefined ? Number(bounded) : comma || openComma ? Number.POSITIVE_INFINITY : min;
    if (max < min) throw this.#fault('min repeat greater than max repeat');
    if (min > MAX_REPEAT || (Number.isFinite(max) && max > MAX_REPEAT)) throw this.#fault(`more than ${MAX_REPEAT} repeats`);
    return { min, max };
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #fault(what: string): PatternError {
    return new PatternError(`${what} at character ${this.#at}`);
  }
}
