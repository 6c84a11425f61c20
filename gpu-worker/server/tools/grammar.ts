/**
 * The grammar of an answer: its format, and its calls as xgrammar's structural tags. Arguments are held
 * to their schema, whether the model may call or must.
 */
import type { Grammar } from '../../../shared/contract/engine.ts';
import type { ResponseFormat, Tool } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import { SchemaProblem } from '../../engine/grammar/schema/problem.ts';
import { readSchema } from '../../engine/grammar/schema/read.ts';
import type { ToolForm } from './form.ts';
import type { ToolOffer } from './offer.ts';

type JsonSchema = Record<string, unknown>;
type Format =
  | { type: 'json_schema'; json_schema: JsonSchema }
  | Tag
  | { type: 'tags_with_separator'; tags: Tag[]; separator: string; at_least_one: true }
  | { type: 'triggered_tags'; triggers: string[]; tags: Tag[]; stop_after_first: boolean }
  | { type: 'or'; elements: Format[] };
interface Tag {
  type: 'tag';
  begin: string;
  content: Format;
  end: string;
}

const json = (schema: JsonSchema): Format => ({ type: 'json_schema', json_schema: schema });

/** null: any text. */
export function grammarOf(format: ResponseFormat, offer: ToolOffer | null): Grammar | null {
  if (offer?.required) {
    const head = offer.openingToken === null ? offer.form.head : offer.form.head.slice(offer.form.opening.length);
    return structural(calls(offer, head));
  }
  if (offer && format.type !== 'text') {
    if (offer.openingToken === null) return structural(oneOf([json(schemaOf(format)), calls(offer, offer.form.head)]));
    const message = `response_format beside tools: this base opens calls with the special token ${offer.form.opening}, which no grammar can offer beside JSON`;
    throw new Failure({ kind: 'unsupported', message, param: 'response_format' });
  }
  switch (format.type) {
    case 'text':
      return offer && offer.openingToken === null ? structural(mayCall(offer)) : null;
    case 'json_object':
      return { kind: 'json_object' };
    case 'json_schema':
      return { kind: 'json_schema', schema: JSON.stringify(format.schema) };
    default:
      return format satisfies never;
  }
}

const schemaOf = (format: Exclude<ResponseFormat, { type: 'text' }>): JsonSchema =>
  format.type === 'json_schema' ? format.schema : { type: 'object' };

const structural = (format: Format): Grammar => ({ kind: 'structural_tag', tag: JSON.stringify({ type: 'structural_tag', format }) });

const oneOf = (elements: Format[]): Format => (elements.length === 1 ? elements[0]! : { type: 'or', elements });

/** Free text, in which a call's opening begins a call. */
const mayCall = (offer: ToolOffer): Format => ({
  type: 'triggered_tags',
  triggers: [offer.form.opening],
  // What follows the opening must be the text of a tag: where it is the object's own, each tool has one.
  tags: offer.form.openingIsJson ? offer.tools.map((tool) => callTag(offer.form, tool)) : [calls(offer, offer.form.head)],
  stop_after_first: !offer.parallel || offer.form.separator === null,
});

/** The calls of one answer, from head to tail. */
function calls({ form, tools, parallel }: ToolOffer, head: string): Tag {
  const call = oneCall(form, tools);
  const { separator, tail: end } = form;
  if (!parallel || separator === null) return { type: 'tag', begin: head, content: call, end };
  const bare: Tag = { type: 'tag', begin: '', content: call, end: '' };
  return { type: 'tag', begin: head, content: { type: 'tags_with_separator', tags: [bare], separator, at_least_one: true }, end };
}

/**
 * One schema for the calls of all tools: each schema is a grammar of its own, and the library spends its time on what
 * grammars have in common. A schema that refers to its own parts must stay whole.
 */
function oneCall(form: ToolForm, tools: readonly Tool[]): Format {
  const refers = (tool: Tool) => JSON.stringify(tool.parameters).includes('"$ref"');
  const schemas = tools.filter((tool) => !refers(tool)).map((tool) => callSchema(form, tool));
  const tags = tools.filter(refers).map((tool) => callTag(form, tool));
  return oneOf([...(schemas.length > 0 ? [json({ anyOf: schemas })] : []), ...tags]);
}

const callSchema = (form: ToolForm, tool: Tool): JsonSchema => ({
  type: 'object',
  properties: { name: { const: tool.name }, [form.argumentsKey]: argumentsSchema(tool) },
  required: ['name', form.argumentsKey],
  additionalProperties: false,
});

const callTag = (form: ToolForm, tool: Tool): Tag => ({
  type: 'tag',
  begin: `{"name": ${JSON.stringify(tool.name)}, "${form.argumentsKey}": `,
  content: json(argumentsSchema(tool)),
  end: '}',
});

/** A tool that is not strict asks for its schema as far as it goes: where a grammar cannot honour it, for an object. */
const argumentsSchema = ({ strict, parameters }: Tool): JsonSchema => (strict || isHonoured(parameters) ? parameters : { type: 'object' });

function isHonoured(schema: JsonSchema): boolean {
  try {
    readSchema(schema);
  } catch (error) {
    // What is wrong with it is told when it is compiled.
    return !(error instanceof SchemaProblem && error.kind === 'unsupported');
  }
  return true;
}
