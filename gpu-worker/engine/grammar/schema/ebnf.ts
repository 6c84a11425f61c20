/**
 * Shapes → xgrammar's EBNF. The text is JSON on one line, ", " between elements and ": " after keys, as Python's json
 * writes it: free white space is where small models lose themselves.
 */
import { rulesOf } from './automaton.ts';
import { ANY_STRING, jsonString, stringOfLength } from './json-string.ts';
import { ANY_INTEGER, ANY_NUMBER, integerBetween, numberBetween } from './numbers.ts';
import { either, type Pattern, text } from './pattern.ts';
import { SchemaProblem } from './problem.ts';
import type { SchemaShape, Shape } from './shape.ts';

const BASIC_RULES = [
  ...rulesOf(ANY_STRING, 'string'),
  ...rulesOf(ANY_INTEGER, 'integer'),
  ...rulesOf(ANY_NUMBER, 'number'),
  'boolean ::= "true" | "false"',
  'null ::= "null"',
  'any ::= string | number | boolean | null | any_array | any_object',
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
      case 'null':
      case 'boolean':
        return shape.kind;
      case 'integer':
        return shape.least === null && shape.most === null ? 'integer' : this.#regular(integerBetween(shape.least, shape.most));
      case 'number':
        return shape.least || shape.most ? this.#regular(boundedNumber(shape)) : 'number';
      case 'string':
        return shape.least > 0 || shape.most !== null ? this.#regular(stringOfLength(shape.least, shape.most)) : 'string';
      case 'pattern':
        return this.#regular(jsonString(shape.pattern));
      case 'literal':
        return this.#regular(either(shape.values.map((value) => text(spaced(value)))));
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

  /** The rule of a pattern; equal patterns are compiled once. */
  #regular(pattern: Pattern): string {
    const key = JSON.stringify(pattern);
    const known = this.#bodies.get(key);
    if (known) return known;
    const name = `text_${this.#bodies.size}`;
    this.#bodies.set(key, name);
    this.#rules.push(...rulesOf(pattern, name));
    return name;
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

function boundedNumber({ least, most }: Extract<Shape, { kind: 'number' }>): Pattern {
  const pattern = numberBetween(least, most);
  if (!pattern) throw new SchemaProblem('invalid', '', `no number with up to six decimals lies between ${least?.value} and ${most?.value}`);
  return pattern;
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
