/** Granite 3: a list of calls after a special token, to the end of the answer. */
import { sameId, type ToolForm } from './form.ts';

export const granite: ToolForm = {
  taughtBy: (template) => template.includes('<|tool_call|>'),
  opening: '<|tool_call|>',
  openingIsJson: false,
  head: '<|tool_call|>[',
  separator: ', ',
  tail: ']',
  closing: ']',
  argumentsKey: 'arguments',
  callId: sameId,
};
