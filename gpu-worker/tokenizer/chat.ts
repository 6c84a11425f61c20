/**
 * Chat messages to the text a model was trained on, by the Jinja template that comes with the base.
 */
import { Template } from '@huggingface/jinja';
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { TokenizerSource } from './source.ts';

export interface RenderableMessage {
  role: string;
  content: string;
}

/** A special token is its text, or an object around it. */
const TokenName = z.union([z.string(), z.object({ content: z.string() }).transform((token) => token.content)]);
/** One template, or several of which "default" is for chat. */
const ChatTemplate = z.union([
  z.string(),
  z.array(z.object({ name: z.string(), template: z.string() })).transform((all) => all.find((one) => one.name === 'default')?.template),
]);

const templateOf = (source: TokenizerSource): string | undefined => ChatTemplate.safeParse(source.tokenizerConfig['chat_template']).data;

export const hasChatTemplate = (source: TokenizerSource): boolean => templateOf(source) !== undefined;

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
const compiled = new WeakMap<TokenizerSource, Template>();

function compile(source: TokenizerSource): Template {
  const known = compiled.get(source);
  if (known) return known;
  const text = templateOf(source);
  if (text === undefined) {
    throw new Failure({ kind: 'unsupported', message: 'render chat: the base has no chat template; use /v1/completions' });
  }
  try {
    const template = new Template(text);
    compiled.set(source, template);
    return template;
  } catch (cause) {
    const message = `render chat: the base's chat template is not supported: ${reason(cause)}`;
    throw new Failure({ kind: 'unsupported', message }, { cause });
  }
}

/** The same text as transformers' apply_chat_template. Throws Failure with the template's own words when it refuses the messages. */
export function renderChat(
  source: TokenizerSource,
  messages: readonly RenderableMessage[],
  options: { addGenerationPrompt: boolean },
): string {
  const template = compile(source);
  try {
    return template.render({
      ...specialTokens(source),
      messages,
      tools: null,
      documents: null,
      add_generation_prompt: options.addGenerationPrompt,
    });
  } catch (cause) {
    throw new Failure({ kind: 'invalid_request', message: `render chat: ${reason(cause)}`, param: 'messages' }, { cause });
  }
}
