/** What a chat request may or must call, and in which form its base does so. */
import type { GenerateRequest, Tool } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import type { TextSide } from '../prompts.ts';
import type { ToolForm } from './form.ts';
import { formOf } from './forms.ts';

export interface ToolOffer {
  form: ToolForm;
  /** Those that may be called. */
  tools: Tool[];
  /** The answer is a call and nothing else. */
  required: boolean;
  /** Several calls in one answer. */
  parallel: boolean;
  /** The opening's token, where it is a special one: it is no part of the shown text, nor of what a grammar can ask for. */
  openingToken: number | null;
}

/** null when nothing may be called. */
export function offerOf(input: GenerateRequest['input'], text: TextSide | null): ToolOffer | null {
  if (input.kind !== 'chat' || !text || input.tools.length === 0 || input.tool_choice.type === 'none') return null;
  const { tool_choice: choice } = input;
  const tools = choice.type === 'function' ? input.tools.filter((tool) => tool.name === choice.name) : input.tools;
  if (tools.length === 0) {
    throw new Failure({ kind: 'invalid_request', message: 'tool_choice names none of the tools', param: 'tool_choice' });
  }
  const form = formOf(text.source);
  const [token, ...more] = text.tokenizer.encodeRendered(form.opening);
  const openingToken = token !== undefined && more.length === 0 && text.tokenizer.isSpecial(token) ? token : null;
  const required = choice.type === 'required' || choice.type === 'function';
  if (openingToken !== null && !required && tools.some((tool) => tool.strict)) {
    const message = `tools: this base opens calls with the special token ${form.opening}, so arguments can be held to a schema only when a call is required (tool_choice)`;
    throw new Failure({ kind: 'unsupported', message, param: 'tools' });
  }
  return { form, tools, required, parallel: input.parallel_tool_calls && choice.type !== 'function', openingToken };
}
