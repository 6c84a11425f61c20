/**
 * Structural tags: texts, JSON values and tags around them, in sequence, in alternatives or inside free text. Read
 * strictly; each schema in them becomes a grammar of ours, since the library's own reading of schemas ignores keywords.
 */
import { z } from 'zod';
import { SchemaProblem } from './schema/problem.ts';

const DEPTH = 8;
const text = z.string().max(4096);

type Format = z.infer<typeof Format>;
const Format = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('any_text') }),
  z.strictObject({ type: z.literal('const_string'), value: text.min(1) }),
  z.strictObject({ type: z.literal('json_schema'), json_schema: z.union([z.boolean(), z.record(z.string(), z.unknown())]) }),
  z.strictObject({ type: z.literal('sequence'), elements: z.array(z.unknown()).min(1) }),
  z.strictObject({ type: z.literal('or'), elements: z.array(z.unknown()).min(1) }),
  z.strictObject({ type: z.literal('tag'), begin: text, content: z.unknown(), end: text }),
  z.strictObject({
    type: z.literal('triggered_tags'),
    triggers: z.array(text.min(1)).min(1),
    tags: z.array(z.unknown()).min(1),
    at_least_one: z.boolean().optional(),
    stop_after_first: z.boolean().optional(),
  }),
  z.strictObject({
    type: z.literal('tags_with_separator'),
    tags: z.array(z.unknown()).min(1),
    separator: text,
    at_least_one: z.boolean().optional(),
    stop_after_first: z.boolean().optional(),
  }),
]);
const StructuralTag = z.strictObject({ type: z.literal('structural_tag').optional(), format: z.unknown() });

/** The tag as the library takes it. `grammarOf` turns a schema into EBNF. */
export function structuralTag(tag: unknown, grammarOf: (schema: unknown) => string): string {
  const read = (format: unknown, depth: number): object => {
    if (depth > DEPTH) throw new SchemaProblem('invalid', '', `structural tags nested more than ${DEPTH} deep`);
    const parsed: Format = parse(Format, format);
    const each = (formats: readonly unknown[]) => formats.map((inner) => read(inner, depth + 1));
    switch (parsed.type) {
      case 'any_text':
      case 'const_string':
        return parsed;
      case 'json_schema':
        return { type: 'grammar', grammar: grammarOf(parsed.json_schema) };
      case 'sequence':
      case 'or':
        return { ...parsed, elements: each(parsed.elements) };
      case 'tag':
        return { ...parsed, content: read(parsed.content, depth + 1) };
      case 'triggered_tags':
      case 'tags_with_separator':
        return { ...parsed, tags: each(parsed.tags) };
      default:
        return parsed satisfies never;
    }
  };
  return JSON.stringify({ type: 'structural_tag', format: read(parse(StructuralTag, tag).format, 0) });
}

function parse<T extends z.ZodType>(of: T, value: unknown): z.infer<T> {
  const parsed = of.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new SchemaProblem('invalid', '', `structural tag: ${issue.path.join('.')}: ${issue.message}`);
}
