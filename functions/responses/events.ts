/**
 * A chat stream, chunk by chunk, as the responses API's events:
 *
 *   response.created · response.in_progress
 *   message   output_item.added · content_part.added · output_text.delta… · output_text.done · content_part.done · output_item.done
 *   call      output_item.added · function_call_arguments.delta… · function_call_arguments.done · output_item.done
 *   response.completed | response.incomplete | response.failed
 *
 * At most one item is open at a time; each is an output of its own, in order. Pure.
 */
import type { Logprob, OutputItem, ResponseObject, ResponsesRequest } from '../../shared/contract/responses.ts';
import { begun, callItem, ended, statusOf, textItem } from './answer.ts';
import { type ChatChunk, type FinishReason, toUsage } from './chat.ts';

export interface ResponseEvent {
  type: string;
  sequence_number: number;
  [field: string]: unknown;
}

type Open =
  | { kind: 'message'; text: string; logprobs: Logprob[] }
  /** `index` is chat's number of the call. */
  | { kind: 'call'; index: number; callId: string; name: string; args: string };

export class ResponseEvents {
  readonly #requestId: string;
  readonly #now: () => number;
  #response: ResponseObject;
  #output: OutputItem[] = [];
  #open: Open | null = null;
  #finish: FinishReason | null = null;
  /** Of tokens whose text is held back still. */
  #unseen: Logprob[] = [];
  #events: ResponseEvent[] = [];
  #sequence = 0;

  constructor(request: ResponsesRequest, requestId: string, now: () => number) {
    this.#requestId = requestId;
    this.#now = now;
    this.#response = begun(request, requestId, now());
  }

  begin(): ResponseEvent[] {
    this.#emit('response.created', { response: this.#response });
    this.#emit('response.in_progress', { response: this.#response });
    return this.#take();
  }

  chunk({ choices: [choice], usage, switchyard }: ChatChunk): ResponseEvent[] {
    if (switchyard) this.#response = { ...this.#response, switchyard };
    if (usage) this.#response = { ...this.#response, usage: toUsage(usage) };
    if (!choice) return this.#take();
    this.#unseen.push(...(choice.logprobs?.content ?? []));
    if (choice.delta.content) this.#text(choice.delta.content);
    for (const { index, id, function: part } of choice.delta.tool_calls ?? []) this.#call(index, id, part?.name, part?.arguments);
    if (choice.finish_reason) this.#finish = choice.finish_reason;
    return this.#take();
  }

  /** The chat stream has ended as it should. */
  end(): ResponseEvent[] {
    if (this.#finish === null) return this.fail('The worker ended its stream before the answer was finished.');
    if (!this.#open && this.#output.length === 0) this.#openMessage();
    this.#close(statusOf(this.#finish));
    const response = ended(this.#response, this.#finish, this.#output, this.#now());
    this.#emit(`response.${response.status}`, { response });
    return this.#take();
  }

  fail(message: string): ResponseEvent[] {
    this.#close('incomplete');
    const error = { code: 'server_error', message };
    this.#emit('response.failed', { response: { ...this.#response, status: 'failed', error, output: this.#output } });
    return this.#take();
  }

  #text(delta: string): void {
    const message = this.#open?.kind === 'message' ? this.#open : this.#openMessage();
    const logprobs = this.#unseen.splice(0);
    message.text += delta;
    message.logprobs.push(...logprobs);
    this.#emit('response.output_text.delta', { ...this.#place(), content_index: 0, delta, logprobs });
  }

  #openMessage(): Extract<Open, { kind: 'message' }> {
    this.#close('completed');
    const message = { kind: 'message' as const, text: '', logprobs: [] };
    this.#open = message;
    this.#emit('response.output_item.added', { output_index: this.#output.length, item: this.#item(message, 'in_progress') });
    this.#emit('response.content_part.added', {
      ...this.#place(),
      content_index: 0,
      part: { type: 'output_text', text: '', annotations: [], logprobs: [] },
    });
    return message;
  }

  #call(index: number, id = '', name = '', args = ''): void {
    let open = this.#open;
    if (open?.kind !== 'call' || open.index !== index) {
      this.#close('completed');
      open = { kind: 'call', index, callId: id, name, args: '' };
      this.#open = open;
      this.#emit('response.output_item.added', { output_index: this.#output.length, item: this.#item(open, 'in_progress') });
    }
    if (args === '') return;
    open.args += args;
    this.#emit('response.function_call_arguments.delta', { ...this.#place(), delta: args });
  }

  #close(status: 'completed' | 'incomplete'): void {
    const open = this.#open;
    if (!open) return;
    if (open.kind === 'message') {
      open.logprobs.push(...this.#unseen.splice(0));
      const { text, logprobs } = open;
      const place = { ...this.#place(), content_index: 0 };
      this.#emit('response.output_text.done', { ...place, text, logprobs });
      this.#emit('response.content_part.done', { ...place, part: { type: 'output_text', text, annotations: [], logprobs } });
    } else {
      this.#emit('response.function_call_arguments.done', { ...this.#place(), name: open.name, arguments: open.args });
    }
    const item = this.#item(open, status);
    this.#emit('response.output_item.done', { output_index: this.#output.length, item });
    this.#output.push(item);
    this.#open = null;
  }

  #item(open: Open, status: OutputItem['status']): OutputItem {
    const index = this.#output.length;
    if (open.kind === 'message') return textItem(this.#requestId, index, status, open.text, open.logprobs);
    return callItem(this.#requestId, index, status, open.callId, open.name, open.args);
  }

  /** Of the open item. */
  #place() {
    return { item_id: this.#item(this.#open!, 'in_progress').id, output_index: this.#output.length };
  }

  #emit(type: string, fields: Record<string, unknown>): void {
    this.#events.push({ type, sequence_number: this.#sequence++, ...fields });
  }

  #take(): ResponseEvent[] {
    return this.#events.splice(0);
  }
}
