/** Which form of calls a base speaks. */
import { Failure } from '../../../shared/errors.ts';
import { templateText } from '../../tokenizer/chat.ts';
import type { TokenizerSource } from '../../tokenizer/source.ts';
import type { ToolForm } from './form.ts';
import { granite } from './granite.ts';
import { hermes } from './hermes.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';

/** The first that matches: Llama's marks are the least particular. */
const FORMS: readonly ToolForm[] = [hermes, mistral, granite, llama];

/** Whether the template itself says what tools there are and how they are called. */
export const takesTools = (source: TokenizerSource): boolean => /\btools\b/.test(templateText(source, { tools: true }) ?? '');

/** A template that knows no tools is taught Hermes' form by a system message. */
export function formOf(source: TokenizerSource): ToolForm {
  if (!takesTools(source)) return hermes;
  const template = templateText(source, { tools: true }) ?? '';
  const form = FORMS.find((one) => one.taughtBy(template));
  if (form) return form;
  const message = "tools: the base's chat template has a form of calls that is not known here";
  throw new Failure({ kind: 'unsupported', message, param: 'tools' });
}
