/** Hermes and Qwen: each call between tags of its own. Also taught to bases whose template knows no tools. */
import { sameId, type ToolForm } from './form.ts';

export const hermes: ToolForm = {
  // Qwen3-Coder's and GLM's templates have the same tag around forms that are no JSON.
  taughtBy: (template) => template.includes('<tool_call>') && !/<function=|<arg_key>/.test(template),
  opening: '<tool_call>',
  openingIsJson: false,
  head: '<tool_call>\n',
  separator: '\n</tool_call>\n<tool_call>\n',
  tail: '\n</tool_call>',
  closing: '</tool_call>',
  argumentsKey: 'arguments',
  callId: sameId,
};
