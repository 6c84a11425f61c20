/**
 * The grammar of an answer: its format, and its calls as xgrammar's structural tags. Arguments are held
 * to their schema, whether the model may call or must.
 */
import type { Grammar } from '../../../shared/contract/engine.ts';
import type { ResponseFormat, Tool } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import { readSchema, SchemaProblem } from '../../engine/grammar/schema/read.ts';
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
    return structural(oneOf(calls(offer, head)));
  }
  if (offer && format.type !== 'text') {
    if (offer.openingToken === null) return structural(oneOf([json(schemaOf(format)), ...calls(offer, offer.form.head)]));
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
  tags: calls(offer, offer.form.head),
  stop_after_first: !offer.parallel || offer.form.separator === null,
});

/** The calls of one answer, each alternative from head to tail. */
function calls({ form, tools, parallel }: ToolOffer, head: string): Tag[] {
  const objects = tools.map((tool) => callObject(form, tool));
  if (!parallel || form.separator === null) {
    return objects.map((object) => ({ ...object, begin: head + object.begin, end: object.end + form.tail }));
  }
  const list: Format = { type: 'tags_with_separator', tags: objects, separator: form.separator, at_least_one: true };
  return [{ type: 'tag', begin: head, content: list, end: form.tail }];
}

const callObject = (form: ToolForm, tool: Tool): Tag => ({
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
