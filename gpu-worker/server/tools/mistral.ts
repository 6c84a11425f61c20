/** Mistral (tokenizers v3 to v7): a list of calls after a special token. */
import { createHash } from 'node:crypto';
import type { ToolForm } from './form.ts';

export const mistral: ToolForm = {
  // Later templates write name and arguments apart.
  taughtBy: (template) => template.includes('[TOOL_CALLS]') && !template.includes('[ARGS]'),
  opening: '[TOOL_CALLS]',
  openingIsJson: false,
  head: '[TOOL_CALLS] [',
  separator: ', ',
  tail: ']',
  closing: ']',
  argumentsKey: 'arguments',
  /** Templates insist on nine letters and digits; the client has longer ids. */
  callId: (id) => (/^[0-9A-Za-z]{9}$/.test(id) ? id : createHash('sha256').update(id).digest('hex').slice(0, 9)),
};
