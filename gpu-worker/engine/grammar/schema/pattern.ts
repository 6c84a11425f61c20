/**
 * The regular expressions of `pattern` and `format`, read into a tree. JSON Schema means ECMA-262 with the flag u, found
 * anywhere in the string unless anchored. What a context-free grammar cannot hold a text to is refused by name.
 */

/** Code points, both ends included, sorted and apart from each other. */
export type CodePoints = readonly (readonly [from: number, to: number])[];

export type Pattern =
  | { kind: 'chars'; points: CodePoints }
  | { kind: 'sequence'; parts: Pattern[] }
  | { kind: 'either'; options: Pattern[] }
  /** most null: any number. */
  | { kind: 'repeat'; part: Pattern; least: number; most: number | null };

export const range = (from: number, to: number): Pattern => ({ kind: 'chars', points: [[from, to]] });
export const sequence = (parts: Pattern[]): Pattern => ({ kind: 'sequence', parts });
export const either = (options: Pattern[]): Pattern => ({ kind: 'either', options });
export const repeat = (part: Pattern, least: number, most: number | null): Pattern => ({ kind: 'repeat', part, least, most });
/** This very text. */
export const text = (chars: string): Pattern => sequence(Array.from(chars, (char) => range(char.codePointAt(0)!, char.codePointAt(0)!)));

const LAST = 0x10ffff;
const DEPTH = 32;
const ANYTHING = repeat(range(0, LAST), 0, null);

const DIGITS: CodePoints = [[0x30, 0x39]];
// biome-ignore format: tables
const WORD: CodePoints = [[0x30, 0x39], [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
// biome-ignore format: tables
const SPACE: CodePoints = [[9, 13], [32, 32], [0xa0, 0xa0], [0x1680, 0x1680], [0x2000, 0x200a], [0x2028, 0x2029], [0x202f, 0x202f], [0x205f, 0x205f], [0x3000, 0x3000], [0xfeff, 0xfeff]];
// biome-ignore format: tables
const LINE_ENDS: CodePoints = [[10, 10], [13, 13], [0x2028, 0x2029]];
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 };
const SYNTAX = '^$\\.*+?()[]{}|/';

function complement(points: CodePoints): CodePoints {
  const out: [number, number][] = [];
  let next = 0;
  for (const [from, to] of points) {
    if (from > next) out.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= LAST) out.push([next, LAST]);
  return out;
}

function union(points: CodePoints): CodePoints {
  const out: [number, number][] = [];
  for (const [from, to] of [...points].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else out.push([from, to]);
  }
  return out;
}

/** Throws an Error that says what is wrong or not supported. */
export function readPattern(source: string): Pattern {
  return new Reader(source).whole();
}

class Reader {
  readonly #chars: string[];
  #at = 0;

  constructor(source: string) {
    this.#chars = [...source];
  }

  /** Alternatives of the whole; an anchor may only stand at their ends. */
  whole(): Pattern {
    const options: Pattern[] = [];
    do {
      const open = !this.#take('^');
      const parts = this.#parts(0);
      const openEnd = !this.#take('$');
      options.push(sequence([...(open ? [ANYTHING] : []), ...parts, ...(openEnd ? [ANYTHING] : [])]));
    } while (this.#take('|'));
    if (this.#at < this.#chars.length) this.#refuse(`"${this.#chars[this.#at]}"`);
    return either(options);
  }

  #refuse(what: string): never {
    throw new Error(`${what} at character ${this.#at + 1} is not supported`);
  }

  #take(char: string): boolean {
    if (this.#chars[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    return this.#chars[this.#at++] ?? this.#refuse('the early end');
  }

  #parts(depth: number): Pattern[] {
    if (depth > DEPTH) this.#refuse(`a group more than ${DEPTH} deep`);
    const parts: Pattern[] = [];
    while (this.#at < this.#chars.length && !'|)$'.includes(this.#chars[this.#at]!)) parts.push(this.#quantified(this.#atom(depth)));
    return parts;
  }

  #atom(depth: number): Pattern {
    const char = this.#next();
    switch (char) {
      case '(':
        return this.#group(depth);
      case '[':
        return { kind: 'chars', points: this.#class() };
      case '.':
        return { kind: 'chars', points: complement(LINE_ENDS) };
      case '\\':
        return { kind: 'chars', points: this.#escape() };
      case '^':
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        this.#at--;
        return this.#refuse(`"${char}"`);
      default:
        return text(char);
    }
  }

  #group(depth: number): Pattern {
    if (this.#take('?') && !this.#take(':')) {
      // Only a group's name; (?= (?! (?<= (?<! are conditions on what stands around.
      const name = /^<[A-Za-z_$][\w$]*>/.exec(this.#chars.slice(this.#at).join(''))?.[0] ?? this.#refuse('"(?"');
      this.#at += name.length;
    }
    const options: Pattern[] = [];
    do options.push(sequence(this.#parts(depth + 1)));
    while (this.#take('|'));
    if (!this.#take(')')) this.#refuse(this.#at < this.#chars.length ? `"${this.#chars[this.#at]}" inside a group` : 'the early end');
    return either(options);
  }

  #quantified(part: Pattern): Pattern {
    const range = this.#quantifier();
    if (!range) return part;
    // Reluctance changes what is captured, not what matches.
    this.#take('?');
    const [least, most] = range;
    if (most !== null && most < least) this.#refuse('a range out of order');
    return repeat(part, least, most);
  }

  #quantifier(): [number, number | null] | null {
    if (this.#take('*')) return [0, null];
    if (this.#take('+')) return [1, null];
    if (this.#take('?')) return [0, 1];
    if (!this.#take('{')) return null;
    const [all, least, comma, most] =
      /^(\d{1,4})(,?)(\d{0,4})\}/.exec(this.#chars.slice(this.#at, this.#at + 10).join('')) ?? this.#refuse('"{"');
    this.#at += all.length;
    if (comma) return [Number(least), most ? Number(most) : null];
    return [Number(least), Number(least)];
  }

  #class(): CodePoints {
    const inverted = this.#take('^');
    const points: (readonly [number, number])[] = [];
    while (!this.#take(']')) {
      const from = this.#classItem();
      if (this.#chars[this.#at] !== '-' || this.#chars[this.#at + 1] === ']') {
        points.push(...from);
        continue;
      }
      this.#at++;
      const to = this.#classItem();
      const single = (item: CodePoints) => item.length === 1 && item[0]![0] === item[0]![1];
      if (!single(from) || !single(to) || to[0]![0] < from[0]![0]) this.#refuse('a range of characters out of order');
      points.push([from[0]![0], to[0]![0]]);
    }
    return inverted ? complement(union(points)) : union(points);
  }

  #classItem(): CodePoints {
    const char = this.#next();
    if (char === '\\') return this.#take('-') ? [[0x2d, 0x2d]] : this.#escape();
    return [[char.codePointAt(0)!, char.codePointAt(0)!]];
  }

  #escape(): CodePoints {
    const char = this.#next();
    switch (char) {
      case 'd':
        return DIGITS;
      case 'D':
        return complement(DIGITS);
      case 'w':
        return WORD;
      case 'W':
        return complement(WORD);
      case 's':
        return SPACE;
      case 'S':
        return complement(SPACE);
      case 'x':
      case 'u':
        return this.#hex(char);
      default: {
        const code = CONTROLS[char] ?? (SYNTAX.includes(char) ? char.codePointAt(0) : undefined) ?? this.#refuse(`"\\${char}"`);
        return [[code, code]];
      }
    }
  }

  #hex(form: 'x' | 'u'): CodePoints {
    const shape = form === 'x' ? /^([0-9a-f]{2})/i : /^(?:([0-9a-f]{4})|\{([0-9a-f]{1,6})\})/i;
    const found = shape.exec(this.#chars.slice(this.#at, this.#at + 8).join('')) ?? this.#refuse(`"\\${form}"`);
    this.#at += found[0].length;
    const code = Number.parseInt(found[1] ?? found[2]!, 16);
    if (code > LAST || (code >= 0xd800 && code <= 0xdfff)) this.#refuse('half a character');
    return [[code, code]];
  }
}
