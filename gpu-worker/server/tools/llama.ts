/** Llama 3.1 and later: the answer is one call, without a mark. */
import { sameId, type ToolForm } from './form.ts';

export const llama: ToolForm = {
  taughtBy: (template) => template.includes('Environment: ipython'),
  opening: '{"name": "',
  openingIsJson: true,
  head: '',
  separator: null,
  tail: '',
  closing: '',
  argumentsKey: 'parameters',
  callId: sameId,
};
