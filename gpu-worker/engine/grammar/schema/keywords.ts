/** Which keywords of JSON Schema are honoured beside each other, and what they may hold. */
import { z } from 'zod';
import { SchemaProblem } from './problem.ts';

const count = z.number().int().min(0).max(10_000);
/** Of strings: each further character is a state to compile. */
const length = z.number().int().min(0).max(256);
const text = z.string();
const node = z.union([z.boolean(), z.record(z.string(), z.unknown())]);
const TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'] as const;
export type Type = (typeof TYPES)[number];
export type Types = z.infer<typeof type>;
const type = z.union([z.enum(TYPES), z.array(z.enum(TYPES)).min(1)]);

/** Keywords that ask for nothing. */
export const notes = {
  title: z.unknown().optional(),
  description: z.unknown().optional(),
  default: z.unknown().optional(),
  examples: z.unknown().optional(),
  deprecated: z.unknown().optional(),
  readOnly: z.unknown().optional(),
  writeOnly: z.unknown().optional(),
  $comment: z.unknown().optional(),
  $schema: z.unknown().optional(),
  $defs: z.record(z.string(), z.unknown()).optional(),
  definitions: z.record(z.string(), z.unknown()).optional(),
};
const limit = z.number().optional();
/** 2^53 is where JSON numbers stop being exact. */
const exact = z.number().int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER).optional();

export const BY_TYPE = {
  null: z.strictObject({}),
  boolean: z.strictObject({}),
  integer: z.strictObject({ minimum: exact, maximum: exact, exclusiveMinimum: exact, exclusiveMaximum: exact }),
  number: z.strictObject({ minimum: limit, maximum: limit, exclusiveMinimum: limit, exclusiveMaximum: limit }),
  string: z.strictObject({ minLength: length.optional(), maxLength: length.optional(), pattern: text.optional(), format: text.optional() }),
  array: z.strictObject({
    items: node.optional(),
    prefixItems: z.array(node).optional(),
    minItems: count.optional(),
    maxItems: count.optional(),
    uniqueItems: z.literal(false).optional(),
  }),
  object: z.strictObject({
    properties: z.record(z.string(), node).optional(),
    required: z.array(text).optional(),
    additionalProperties: node.optional(),
  }),
} satisfies Record<Type, z.ZodType>;
export const keywordsOf = (of: Type): readonly string[] => Object.keys(BY_TYPE[of].shape);

/** Of those below, other keywords than these are refused; of a type, others than its own. */
export const TYPED = z.looseObject({ ...notes, type: type.optional() });
export const REF = z.strictObject({ ...notes, $ref: text });
export const CONST = z.strictObject({ ...notes, type: type.optional(), const: z.unknown() });
export const ENUM = z.strictObject({ ...notes, type: type.optional(), enum: z.array(z.unknown()).min(1) });
export const ANY_OF = z.strictObject({ ...notes, anyOf: z.array(node).min(1) });
export const ALL_OF = z.strictObject({ ...notes, allOf: z.array(node).length(1) });

export function parse<T extends z.ZodType>(of: T, schema: unknown, at: string): z.infer<T> {
  const parsed = of.safeParse(schema);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  if (issue.code === 'unrecognized_keys') throw new SchemaProblem('unsupported', at, `"${issue.keys[0]}" is not honoured here`);
  if (issue.code === 'invalid_value' && issue.path.at(-1) === 'uniqueItems')
    throw new SchemaProblem('unsupported', at, '"uniqueItems" is not honoured');
  if (issue.path[0] === 'allOf') throw new SchemaProblem('unsupported', `${at}/allOf`, 'only one schema in it is honoured');
  throw new SchemaProblem('invalid', `${at}/${issue.path.join('/')}`, issue.message);
}

/** As most tools write schemas, `type` may be left to be guessed for containers. */
export function inferredType(keywords: readonly string[]): Type | undefined {
  return (['object', 'array'] as const).find((name) => keywords.some((key) => keywordsOf(name).includes(key)));
}

export function isOfType(value: unknown, name: Type): boolean {
  switch (name) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    case 'boolean':
    case 'number':
    case 'string':
      // The names are JavaScript's.
      return typeof value === name;
    default:
      return name satisfies never;
  }
}
