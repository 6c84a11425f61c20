/**
 * Shapes → xgrammar's EBNF. The text is JSON on one line, ", " between elements and ": " after keys, as Python's json
 * writes it: free white space is where small models lose themselves.
 */
import { ANY_INTEGER, ANY_NUMBER, integerBetween, NUMBER_LIMIT, numberBetween } from './numbers.ts';
import { type CodePoints, complement, type Pattern } from './pattern.ts';
import { SchemaProblem } from './read.ts';
import type { SchemaShape, Shape } from './shape.ts';

/** One character of a string: as it is, or escaped. */
const PLAIN = String.raw`[^"\\\x00-\x1f]`;
const CHAR = String.raw`(${PLAIN} | "\\" ["\\/bfnrt])`;

const BASIC_RULES = [
  String.raw`string ::= "\"" string_rest`,
  String.raw`string_rest ::= "\"" | ${PLAIN} string_rest | "\\" escape string_rest`,
  String.raw`escape ::= ["\\/bfnrt] | "u" [0-9a-fA-F]{4}`,
  `integer ::= ${ANY_INTEGER}`,
  `number ::= ${ANY_NUMBER}`,
  'any ::= string | number | "true" | "false" | "null" | any_array | any_object',
  'any_array ::= "[" (any (", " any)*)? "]"',
  'any_object ::= "{" (string ": " any (", " string ": " any)*)? "}"',
];

export const JSON_OBJECT_EBNF = ['root ::= any_object', ...BASIC_RULES].join('\n');

export function ebnfOf(schema: SchemaShape): string {
  return new Writer(schema).write();
}

class Writer {
  readonly #schema: SchemaShape;
  readonly #rules: string[] = [];
  readonly #names = new Map<string, string>();
  readonly #bodies = new Map<string, string>();

  constructor(schema: SchemaShape) {
    this.#schema = schema;
    for (const pointer of schema.named.keys()) this.#names.set(pointer, `ref_${this.#names.size}`);
  }

  write(): string {
    const root = this.#shape(this.#schema.root);
    for (const [pointer, shape] of this.#schema.named) this.#rules.push(`${this.#names.get(pointer)} ::= ${this.#shape(shape)}`);
    return [`root ::= ${root}`, ...this.#rules, ...BASIC_RULES].join('\n');
  }

  /** The name of a rule with this body; equal bodies are compiled once. */
  #rule(body: string): string {
    const known = this.#bodies.get(body);
    if (known) return known;
    const name = `part_${this.#bodies.size}`;
    this.#bodies.set(body, name);
    this.#rules.push(`${name} ::= ${body}`);
    return name;
  }

  /** An expression that can stand in a sequence. */
  #shape(shape: Shape): string {
    switch (shape.kind) {
      case 'any':
      case 'integer':
        return shape.kind === 'any'
          ? 'any'
          : shape.least === null && shape.most === null
            ? 'integer'
            : integerBetween(shape.least, shape.most);
      case 'number':
        return numberExpression(shape);
      case 'null':
        return '"null"';
      case 'boolean':
        return '("true" | "false")';
      case 'string':
        if (shape.least === 0 && shape.most === null) return 'string';
        return this.#rule(String.raw`"\"" ${CHAR}{${shape.least},${shape.most ?? ''}} "\""`);
      case 'pattern':
        return this.#rule(String.raw`"\"" (${patternExpression(shape.pattern)}) "\""`);
      case 'literal':
        return this.#rule(shape.values.map((value) => quoted(spaced(value))).join(' | '));
      case 'either':
        return this.#rule(shape.options.map((option) => this.#shape(option)).join(' | '));
      case 'ref':
        return this.#names.get(shape.to)!;
      case 'array':
        return this.#rule(this.#array(shape));
      case 'object':
        return this.#rule(this.#object(shape));
      default:
        return shape satisfies never;
    }
  }

  #array({ first, rest, least, most }: Extract<Shape, { kind: 'array' }>): string {
    if (most === 0) return '"[]"';
    const item = rest && this.#shape(rest);
    if (first.length === 0) {
      if (!item) return '"[]"';
      const items = `${item} (", " ${item}){${Math.max(least - 1, 0)},${most === null ? '' : most - 1}}`;
      return least > 0 ? `"[" ${items} "]"` : `"[" (${items})? "]"`;
    }
    const places = first.slice(0, most ?? first.length);
    const more = most === null ? null : most - places.length;
    // From the last place to the first, each with what may follow it; from place `least` on it may be left out.
    let tail = item && more !== 0 ? `(", " ${item}){${Math.max(least - places.length, 0)},${more ?? ''}}` : '""';
    for (let i = places.length - 1; i >= 0; i--) {
      const body = `${i > 0 ? '", " ' : ''}${this.#shape(places[i]!)} ${tail}`;
      tail = this.#rule(i < least ? body : `(${body})?`);
    }
    return `"[" ${tail} "]"`;
  }

  /**
   * Optional properties make it a question which one comes first and has no comma before it: one alternative for each
   * that may, up to the first required one. after[i] is what may follow once there is a property before i.
   */
  #object({ properties, rest }: Extract<Shape, { kind: 'object' }>): string {
    if (rest) {
      const value = this.#shape(rest);
      return `"{" (string ": " ${value} (", " string ": " ${value})*)? "}"`;
    }
    if (properties.length === 0) return '"{}"';
    const written = properties.map(({ name, shape, required }) => ({
      text: `${quoted(`${JSON.stringify(name)}: `)} ${this.#shape(shape)}`,
      required,
    }));
    const after: string[] = ['"}"'];
    for (const { text, required } of written.slice(1).reverse()) {
      // An alternative compiles twenty times faster than an optional part before what follows.
      const body = `", " ${text} ${after[0]}${required ? '' : ` | ${after[0]}`}`;
      after.unshift(this.#rule(body));
    }
    const firstRequired = written.findIndex((property) => property.required);
    const starts = written.slice(0, firstRequired < 0 ? written.length : firstRequired + 1).map(({ text }, i) => `"{" ${text} ${after[i]}`);
    return [...starts, ...(firstRequired < 0 ? ['"{}"'] : [])].join(' | ');
  }
}

function numberExpression({ least, most }: Extract<Shape, { kind: 'number' }>): string {
  if (!least && !most) return 'number';
  const large = [least, most].find((bound) => bound && Math.abs(bound.value) > NUMBER_LIMIT);
  if (large)
    throw new SchemaProblem('unsupported', '', `a bound of ${large.value} for "number" is not honoured (at most ±${NUMBER_LIMIT})`);
  const expression = numberBetween(least, most);
  if (expression === null)
    throw new SchemaProblem('invalid', '', `no number with up to six decimals lies between ${least?.value} and ${most?.value}`);
  return expression;
}

/** A text as a literal of the grammar. */
function quoted(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** JSON text in the grammar's spacing. */
function spaced(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spaced).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, item]) => `${JSON.stringify(key)}: ${spaced(item)}`)
    .join(', ')}}`;
}

function patternExpression(pattern: Pattern): string {
  switch (pattern.kind) {
    case 'chars':
      return charsExpression(pattern.points);
    case 'sequence':
      return pattern.parts.length > 0 ? pattern.parts.map(patternExpression).join(' ') : '""';
    case 'either':
      return `(${pattern.options.map(patternExpression).join(' | ')})`;
    case 'repeat':
      return `(${patternExpression(pattern.part)}){${pattern.least},${pattern.most ?? ''}}`;
    default:
      return pattern satisfies never;
  }
}

/** What stands in JSON text as it is: no quote, backslash or control character, and no half of a pair. */
// biome-ignore format: a table
const UNESCAPED = complement([[0, 0x1f], [0x22, 0x22], [0x5c, 0x5c], [0xd800, 0xdfff]]);
const ESCAPED: readonly (readonly [code: number, text: string])[] = [
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [8, '\\b'],
  [9, '\\t'],
  [10, '\\n'],
  [12, '\\f'],
  [13, '\\r'],
];

function charsExpression(points: CodePoints): string {
  const has = (code: number) => points.some(([from, to]) => from <= code && code <= to);
  const plain = points.flatMap(([from, to]) =>
    UNESCAPED.flatMap(([low, high]): [number, number][] => (from <= high && low <= to ? [[Math.max(from, low), Math.min(to, high)]] : [])),
  );
  const forms = ESCAPED.filter(([code]) => has(code)).map(([, text]) => quoted(text));
  const code = (point: number) => `\\U${point.toString(16).padStart(8, '0')}`;
  if (plain.length > 0) forms.unshift(`[${plain.map(([from, to]) => (from === to ? code(from) : `${code(from)}-${code(to)}`)).join('')}]`);
  if (forms.length === 0) throw new SchemaProblem('invalid', '', 'a pattern asks for characters that cannot be written');
  return `(${forms.join(' | ')})`;
}
