/**
 * JSON Schema (2020-12, as far as a grammar can honour it) → shapes. A keyword that is not honoured where it stands is
 * refused by name: strict output promises that every answer fits the schema.
 *
 * Narrower than the standard, so that what is promised holds: objects without `additionalProperties` have only their
 * `properties`, in that order, since a further key could repeat one of them; `format` is asserted.
 */
import type { z } from 'zod';
import { FORMATS, patternOfFormat } from './formats.ts';
import {
  ALL_OF,
  ANY_OF,
  BY_TYPE,
  CONST,
  ENUM,
  inferredType,
  isOfType,
  keywordsOf,
  notes,
  parse,
  REF,
  TYPED,
  type Type,
  type Types,
} from './keywords.ts';
import { NUMBER_LIMIT } from './numbers.ts';
import { type Pattern, readPattern } from './pattern.ts';
import { SchemaProblem } from './problem.ts';
import type { Bound, SchemaShape, Shape } from './shape.ts';

/** What a reader of the schema may come across: more of it costs more to compile than an answer is worth. */
const DEPTH = 32;
const NODES = 5000;
const VALUES = 2000;

export function readSchema(schema: unknown): SchemaShape {
  return new SchemaReader(schema).read();
}

class SchemaReader {
  readonly #schema: unknown;
  readonly #named = new Map<string, Shape>();
  readonly #unread: string[] = [];
  #nodes = 0;
  #values = 0;

  constructor(schema: unknown) {
    this.#schema = schema;
  }

  read(): SchemaShape {
    const root = this.#node(this.#schema, '', 0);
    for (let pointer = this.#unread.pop(); pointer !== undefined; pointer = this.#unread.pop()) {
      this.#named.set(pointer, this.#node(this.#lookUp(pointer), pointer, 0));
    }
    return { root, named: this.#named };
  }

  #node(schema: unknown, at: string, depth: number): Shape {
    if (depth > DEPTH) throw new SchemaProblem('invalid', at, `nested more than ${DEPTH} deep`);
    if (++this.#nodes > NODES) throw new SchemaProblem('invalid', at, `more than ${NODES} parts`);
    if (schema === true) return { kind: 'any' };
    if (schema === false) throw new SchemaProblem('unsupported', at, 'false is only honoured as items and additionalProperties');
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema))
      throw new SchemaProblem('invalid', at, `expected an object or a boolean, got ${JSON.stringify(schema).slice(0, 100)}`);
    if ('$ref' in schema) return this.#ref(parse(REF, schema, at).$ref, at);
    if ('const' in schema) {
      const { type: types, const: value } = parse(CONST, schema, at);
      return this.#literal([value], types, `${at}/const`);
    }
    if ('enum' in schema) {
      const { type: types, enum: values } = parse(ENUM, schema, at);
      return this.#literal(values, types, `${at}/enum`);
    }
    if ('anyOf' in schema) {
      const options = parse(ANY_OF, schema, at).anyOf;
      return { kind: 'either', options: options.map((option, i) => this.#node(option, `${at}/anyOf/${i}`, depth + 1)) };
    }
    if ('allOf' in schema) return this.#node(parse(ALL_OF, schema, at).allOf[0], `${at}/allOf/0`, depth + 1);
    return this.#typed(schema as Record<string, unknown>, at, depth);
  }

  #ref(ref: string, at: string): Shape {
    const pointer = /^#((?:\/.*)?)$/s.exec(ref)?.[1];
    if (pointer === undefined) throw new SchemaProblem('unsupported', at, `$ref "${ref}": only references into the schema itself ("#/…")`);
    if (!this.#named.has(pointer)) {
      // A place until it is read, so that it is read once.
      this.#named.set(pointer, { kind: 'any' });
      this.#unread.push(pointer);
    }
    return { kind: 'ref', to: pointer };
  }

  #lookUp(pointer: string): unknown {
    let found: unknown = this.#schema;
    for (const part of pointer.split('/').slice(1)) {
      const key = unescaped(part).replaceAll('~1', '/').replaceAll('~0', '~');
      if (typeof found !== 'object' || found === null || !Object.hasOwn(found, key))
        throw new SchemaProblem('invalid', '', `$ref "#${pointer}": there is no "${key}"`);
      found = (found as Record<string, unknown>)[key];
    }
    return found;
  }

  #literal(values: readonly unknown[], types: Types | undefined, at: string): Shape {
    this.#values += values.length;
    if (this.#values > VALUES) throw new SchemaProblem('invalid', at, `more than ${VALUES} values in all`);
    const allowed = types === undefined ? null : [types].flat();
    const odd = values.find((value) => allowed && !allowed.some((name) => isOfType(value, name)));
    if (odd !== undefined)
      throw new SchemaProblem('invalid', at, `${JSON.stringify(odd).slice(0, 100)} is not of type ${allowed?.join(' or ')}`);
    return { kind: 'literal', values: [...values] };
  }

  #typed(schema: Record<string, unknown>, at: string, depth: number): Shape {
    const asks = Object.keys(schema).filter((key) => !Object.hasOwn(notes, key));
    const types = [parse(TYPED, schema, at).type ?? inferredType(asks)].flat();
    if (types[0] === undefined) {
      if (asks.length === 0) return { kind: 'any' };
      throw new SchemaProblem('unsupported', at, `"${asks[0]}" is not honoured without a type`);
    }
    const stray = asks.find((key) => key !== 'type' && !types.some((name) => name && keywordsOf(name).includes(key)));
    if (stray !== undefined) throw new SchemaProblem('unsupported', at, `"${stray}" is not honoured for type ${types.join(' or ')}`);
    const options = types.flatMap((name) => (name ? [this.#ofType(name, schema, at, depth)] : []));
    return options.length === 1 ? options[0]! : { kind: 'either', options };
  }

  #ofType(name: Type, schema: Record<string, unknown>, at: string, depth: number): Shape {
    const own = Object.fromEntries(keywordsOf(name).flatMap((key) => (key in schema ? [[key, schema[key]]] : [])));
    switch (name) {
      case 'null':
      case 'boolean':
        return { kind: name };
      case 'integer': {
        const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = parse(BY_TYPE.integer, own, at);
        const least = largest(minimum, exclusiveMinimum === undefined ? undefined : exclusiveMinimum + 1);
        const most = smallest(maximum, exclusiveMaximum === undefined ? undefined : exclusiveMaximum - 1);
        if (least !== null && most !== null && least > most)
          throw new SchemaProblem('invalid', at, `no integer is at least ${least} and at most ${most}`);
        return { kind: 'integer', least, most };
      }
      case 'number':
        return numberShape(parse(BY_TYPE.number, own, at), at);
      case 'string':
        return stringShape(parse(BY_TYPE.string, own, at), at);
      case 'array':
        return this.#array(parse(BY_TYPE.array, own, at), at, depth);
      case 'object':
        return this.#object(parse(BY_TYPE.object, own, at), at, depth);
      default:
        return name satisfies never;
    }
  }

  #array({ items, prefixItems, minItems, maxItems }: z.infer<typeof BY_TYPE.array>, at: string, depth: number): Shape {
    const first = (prefixItems ?? []).map((item, i) => this.#node(item, `${at}/prefixItems/${i}`, depth + 1));
    const rest = items === false ? null : this.#node(items ?? true, `${at}/items`, depth + 1);
    const most = rest ? (maxItems ?? null) : Math.min(maxItems ?? first.length, first.length);
    const least = minItems ?? 0;
    if (most !== null && least > most) throw new SchemaProblem('invalid', at, `no array has at least ${least} and at most ${most} items`);
    return { kind: 'array', first, rest, least, most };
  }

  #object({ properties = {}, required = [], additionalProperties }: z.infer<typeof BY_TYPE.object>, at: string, depth: number): Shape {
    const names = Object.keys(properties);
    const missing = required.find((name) => !Object.hasOwn(properties, name));
    if (missing !== undefined) throw new SchemaProblem('unsupported', `${at}/required`, `"${missing}" is not among the properties`);
    if (names.length > 0 && additionalProperties !== undefined && additionalProperties !== false)
      throw new SchemaProblem('unsupported', `${at}/additionalProperties`, 'other than false is not honoured beside properties');
    const open = names.length === 0 && additionalProperties !== false;
    return {
      kind: 'object',
      properties: names.map((name) => ({
        name,
        shape: this.#node(properties[name], `${at}/properties/${name}`, depth + 1),
        required: required.includes(name),
      })),
      rest: open ? this.#node(additionalProperties ?? true, `${at}/additionalProperties`, depth + 1) : null,
    };
  }
}

/** A part of a pointer in a URI fragment; as it stands if that is not what it is. */
function unescaped(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const given = (values: readonly (number | undefined)[]): number[] => values.filter((value) => value !== undefined);
const largest = (...values: (number | undefined)[]): number | null => (given(values).length > 0 ? Math.max(...given(values)) : null);
const smallest = (...values: (number | undefined)[]): number | null => (given(values).length > 0 ? Math.min(...given(values)) : null);

function numberShape(range: z.infer<typeof BY_TYPE.number>, at: string): Shape {
  const large = Object.entries(range).find(([, bound]) => Math.abs(bound ?? 0) > NUMBER_LIMIT);
  if (large)
    throw new SchemaProblem('unsupported', at, `"${large[0]}": ${large[1]} is not honoured for numbers (at most ±${NUMBER_LIMIT})`);
  const bound = (
    inclusive: number | undefined,
    exclusive: number | undefined,
    tighter: (a: number, b: number) => boolean,
  ): Bound | null => {
    if (exclusive !== undefined && (inclusive === undefined || exclusive === inclusive || tighter(exclusive, inclusive)))
      return { value: exclusive, exclusive: true };
    return inclusive === undefined ? null : { value: inclusive, exclusive: false };
  };
  return {
    kind: 'number',
    least: bound(range.minimum, range.exclusiveMinimum, (a, b) => a > b),
    most: bound(range.maximum, range.exclusiveMaximum, (a, b) => a < b),
  };
}

function stringShape({ minLength, maxLength, pattern, format }: z.infer<typeof BY_TYPE.string>, at: string): Shape {
  const kinds = [...(pattern === undefined ? [] : ['pattern']), ...(format === undefined ? [] : ['format'])];
  if (minLength !== undefined || maxLength !== undefined) kinds.push(minLength === undefined ? 'maxLength' : 'minLength');
  if (kinds.length > 1) throw new SchemaProblem('unsupported', at, `"${kinds[0]}" and "${kinds[1]}" together are not honoured`);
  if (pattern !== undefined) return { kind: 'pattern', pattern: patternOf(pattern, `${at}/pattern`) };
  if (format !== undefined) {
    const known = patternOfFormat(format);
    if (known === undefined)
      throw new SchemaProblem('unsupported', `${at}/format`, `"${format}" is not honoured (those that are: ${FORMATS.join(', ')})`);
    return { kind: 'pattern', pattern: readPattern(known) };
  }
  if (maxLength !== undefined && (minLength ?? 0) > maxLength)
    throw new SchemaProblem('invalid', at, `no string has at least ${minLength} and at most ${maxLength} characters`);
  return { kind: 'string', least: minLength ?? 0, most: maxLength ?? null };
}

function patternOf(source: string, at: string): Pattern {
  try {
    return readPattern(source);
  } catch (cause) {
    throw new SchemaProblem('unsupported', at, cause instanceof Error ? cause.message : String(cause));
  }
}
