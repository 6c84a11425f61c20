/** A conversation as the text that a model continues: through the base's template, with whatever that template does not know put into words. */
import type { ChatMessage } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import { renderChat, type TemplateMessage } from '../../tokenizer/chat.ts';
import type { TokenizerSource } from '../../tokenizer/source.ts';
import { sameId } from './form.ts';
import { takesTools } from './forms.ts';
import type { ToolOffer } from './offer.ts';
import { nativeMessages, templateTool, toldMessages, toolsText, withText } from './render.ts';

export function conversationText(source: TokenizerSource, messages: readonly ChatMessage[], offer: ToolOffer | null): string {
  const rendered = takesTools(source) ? renderNative(source, messages, offer) : renderTold(source, messages, offer);
  // A special token that no grammar can ask for is given.
  return offer?.required && offer.openingToken !== null ? rendered + offer.form.opening : rendered;
}

function renderNative(source: TokenizerSource, messages: readonly ChatMessage[], offer: ToolOffer | null): string {
  const tools = offer?.tools.map(templateTool) ?? null;
  return renderNamed(source, nativeMessages(messages, offer?.form.callId ?? sameId), tools);
}

function renderTold(source: TokenizerSource, messages: readonly ChatMessage[], offer: ToolOffer | null): string {
  const told = toldMessages(messages);
  if (!offer) return renderNamed(source, told, null);
  const text = toolsText(offer.tools);
  return inSystemMessage(source, told, text) ?? renderNamed(source, withText(told, 'user', text), null);
}

/** null where a template has no place for a system message: some refuse it, some leave it out. */
function inSystemMessage(source: TokenizerSource, messages: readonly TemplateMessage[], text: string): string | null {
  try {
    const rendered = renderNamed(source, withText(messages, 'system', text), null);
    return rendered.includes(text) ? rendered : null;
  } catch (error) {
    if (error instanceof Failure && error.value.kind === 'invalid_request') return null;
    throw error;
  }
}

/** Who speaks: where the template does not say it, the message does. */
function renderNamed(source: TokenizerSource, messages: readonly TemplateMessage[], tools: object[] | null): string {
  const render = (all: readonly TemplateMessage[]) => renderChat(source, all, { addGenerationPrompt: true, tools });
  const rendered = render(messages);
  const isNamed = ({ role, name }: TemplateMessage) => role !== 'tool' && typeof name === 'string';
  if (!messages.some(isNamed)) return rendered;
  if (rendered !== render(messages.map((message) => (isNamed(message) ? { ...message, name: undefined } : message)))) return rendered;
  return render(
    messages.map((message) => (isNamed(message) ? { ...message, content: `${message['name']}: ${message.content}` } : message)),
  );
}
