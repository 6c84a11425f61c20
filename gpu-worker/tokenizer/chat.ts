/**
 * Chat messages to the text a model was trained on, by the Jinja template that comes with the base.
 */
import { Template } from '@huggingface/jinja';
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { TokenizerSource } from './source.ts';

/** Templates read what else they know of. */
export interface TemplateMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

/** A special token is its text, or an object around it. */
const TokenName = z.union([z.string(), z.object({ content: z.string() }).transform((token) => token.content)]);
/** One template, or several of which "default" is for chat and "tool_use", if it is there, for chat with tools. */
const ChatTemplates = z.union([
  z.string().transform((template) => [{ name: 'default', template }]),
  z.array(z.object({ name: z.string(), template: z.string() })),
]);

/** The template's own text. */
export function templateText(source: TokenizerSource, options: { tools: boolean }): string | undefined {
  const all = ChatTemplates.safeParse(source.tokenizerConfig['chat_template']).data ?? [];
  const named = (name: string) => all.find((one) => one.name === name)?.template;
  return (options.tools ? named('tool_use') : undefined) ?? named('default');
}

export const hasChatTemplate = (source: TokenizerSource): boolean => templateText(source, { tools: false }) !== undefined;

function specialTokens(source: TokenizerSource): Record<string, string> {
  const named = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'];
  return Object.fromEntries(
    named.flatMap((key) => {
      const token = TokenName.safeParse(source.tokenizerConfig[key]);
      return token.success ? [[key, token.data]] : [];
    }),
  );
}

const reason = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

/** Parsing a template takes longer than rendering it; one source serves many requests. */
const compiled = new WeakMap<TokenizerSource, Map<string, Template>>();

function compile(source: TokenizerSource, tools: boolean): Template {
  const text = templateText(source, { tools });
  if (text === undefined) {
    throw new Failure({ kind: 'unsupported', message: 'render chat: the base has no chat template; use /v1/completions' });
  }
  const known = compiled.get(source) ?? new Map<string, Template>();
  compiled.set(source, known);
  const before = known.get(text);
  if (before) return before;
  try {
    const template = new Template(text);
    known.set(text, template);
    return template;
  } catch (cause) {
    const message = `render chat: the base's chat template is not supported: ${reason(cause)}`;
    throw new Failure({ kind: 'unsupported', message }, { cause });
  }
}

/**
 * The same text as transformers' apply_chat_template; `tools` in OpenAI's form, null for none.
 * Throws Failure with the template's own words when it refuses the messages.
 */
export function renderChat(
  source: TokenizerSource,
  messages: readonly TemplateMessage[],
  options: { addGenerationPrompt: boolean; tools: readonly object[] | null },
): string {
  const template = compile(source, options.tools !== null);
  try {
    return template.render({
      ...specialTokens(source),
      messages,
      tools: options.tools,
      documents: null,
      add_generation_prompt: options.addGenerationPrompt,
    });
  } catch (cause) {
    throw new Failure({ kind: 'invalid_request', message: `render chat: ${reason(cause)}`, param: 'messages' }, { cause });
  }
}
