/**
 * Messages and tools as chat templates take them. A template that knows tools gets them in OpenAI's form;
 * to another they are told in Hermes' form: what may be called at the end of the system message (or of
 * the first user's, where there is none to be), calls in the assistant's text, results as a user's.
 */

import { argumentsOf } from '../../../shared/contract/openai-messages.ts';
import type { ChatMessage, Tool, ToolCall } from '../../../shared/contract/worker.ts';
import type { TemplateMessage } from '../../tokenizer/chat.ts';
import { hermes } from './hermes.ts';

const named = (name: string | undefined) => (name === undefined ? {} : { name });

/** The schema at the edge lets only objects through; a request made by other means may hold other text. */
const argumentsIn = (call: ToolCall): Record<string, unknown> | string => argumentsOf(call.arguments) ?? call.arguments;

/** OpenAI's form of a tool. */
export const templateTool = ({ name, description, parameters }: Tool) => ({
  type: 'function',
  function: { name, ...(description === null ? {} : { description }), parameters },
});

/** For templates that take tools: arguments as objects, since templates write them as JSON themselves. */
export function nativeMessages(messages: readonly ChatMessage[], callId: (id: string) => string): TemplateMessage[] {
  const functions = new Map<string, string>();
  return messages.map((message) => {
    switch (message.role) {
      case 'system':
      case 'user':
        return message;
      case 'assistant': {
        const { tool_calls: calls, ...said } = message;
        if (!calls) return said;
        for (const call of calls) functions.set(call.id, call.name);
        const asked = calls.map((call) => ({
          id: callId(call.id),
          type: 'function',
          function: { name: call.name, arguments: argumentsIn(call) },
        }));
        return { ...said, tool_calls: asked };
      }
      case 'tool': {
        const { content, tool_call_id: id } = message;
        return { role: 'tool', content, tool_call_id: callId(id), ...named(functions.get(id)) };
      }
      default:
        return message satisfies never;
    }
  });
}

/** For templates that know no tools: the same conversation without tools in it. */
export function toldMessages(messages: readonly ChatMessage[]): TemplateMessage[] {
  const told: TemplateMessage[] = [];
  let results = false;
  for (const message of messages) {
    if (message.role === 'tool') {
      const response = `<tool_response>\n${message.content}\n</tool_response>`;
      const last = told.at(-1);
      // The results of one answer's calls are one message: templates want roles to alternate.
      if (results && last) last.content += `\n${response}`;
      else told.push({ role: 'user', content: response });
      results = true;
      continue;
    }
    results = false;
    if (message.role !== 'assistant') told.push({ ...message });
    else told.push({ role: 'assistant', content: withCalls(message.content, message.tool_calls ?? []), ...named(message.name) });
  }
  return told;
}

function withCalls(content: string, calls: readonly ToolCall[]): string {
  if (calls.length === 0) return content;
  const objects = calls.map((call) => `{"name": ${JSON.stringify(call.name)}, "arguments": ${JSON.stringify(argumentsIn(call))}}`);
  return `${content === '' ? '' : `${content}\n`}${hermes.head}${objects.join(hermes.separator ?? '')}${hermes.tail}`;
}

/** What Hermes' and Qwen's templates say about tools. */
export function toolsText(tools: readonly Tool[]): string {
  return `# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
${tools.map((tool) => JSON.stringify(templateTool(tool))).join('\n')}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>`;
}

/** `text` at the end of the system message or of the first user's, or in such a message before all others. */
export function withText(messages: readonly TemplateMessage[], role: 'system' | 'user', text: string): TemplateMessage[] {
  const at = role === 'user' ? messages.findIndex((message) => message.role === role) : messages[0]?.role === role ? 0 : -1;
  if (at < 0) return [{ role, content: text }, ...messages];
  return messages.map((message, i) => (i === at ? { ...message, content: `${message.content}\n\n${text}` } : message));
}
