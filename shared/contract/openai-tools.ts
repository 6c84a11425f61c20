/** Function tools and answer formats, as OpenAI's requests name them. */
import { z } from 'zod';
import { onlyType, refuse } from './fields.ts';

const FunctionName = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, "_" and "-"');

const JsonSchema = z.record(z.string(), z.unknown());

/** Arguments are one JSON object: OpenAI takes no other schema either. */
const Parameters = JsonSchema.superRefine((schema, ctx) => {
  const type = schema['type'];
  if (type !== undefined && type !== 'object') {
    ctx.addIssue({ code: 'custom', path: ['type'], message: `expected "object", got ${JSON.stringify(type)?.slice(0, 60)}` });
  }
});

export const FunctionDefinition = z.strictObject({
  name: FunctionName,
  description: z.string().nullish(),
  parameters: Parameters.nullish(),
  strict: z.boolean().nullish(),
});
export type FunctionDefinition = z.infer<typeof FunctionDefinition>;

const ToolInput = z.strictObject({ type: onlyType('function', 'tools'), function: FunctionDefinition });

export const Tools = z
  .array(ToolInput)
  .max(128)
  .superRefine((tools, ctx) => {
    const names = tools.map((tool) => tool.function.name);
    const twice = names.findIndex((name, i) => names.indexOf(name) < i);
    if (twice >= 0) ctx.addIssue({ code: 'custom', path: [twice, 'function', 'name'], message: `"${names[twice]}" names two tools` });
  });

const NamedFunction = z.strictObject({ type: z.literal('function'), function: z.strictObject({ name: FunctionName }) });

const NamedChoice = z.looseObject({ type: z.string() }).superRefine((choice, ctx) => {
  if (choice.type !== 'function') refuse(ctx, `a tool_choice of type ${JSON.stringify(choice.type.slice(0, 40))} is not supported`);
  else if (!NamedFunction.safeParse(choice).success) {
    ctx.addIssue({ code: 'custom', message: 'expected {"type": "function", "function": {"name": …}}' });
  }
});

export const ToolChoiceInput = z.union([z.enum(['none', 'auto', 'required']), NamedChoice], {
  error: 'expected "none", "auto", "required" or a function to call',
});
export type ToolChoiceInput = z.infer<typeof ToolChoiceInput>;

/** The function that a choice names, if it names one. */
export const namedFunction = (choice: ToolChoiceInput | null | undefined): string | null =>
  NamedFunction.safeParse(choice).data?.function.name ?? null;

export const ResponseFormatInput = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    /** Name and description are for people: the schema alone says what the answer is. */
    json_schema: z.strictObject({
      name: FunctionName,
      description: z.string().nullish(),
      schema: JsonSchema.nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
]);
export type ResponseFormatInput = z.infer<typeof ResponseFormatInput>;
