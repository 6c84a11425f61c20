/** Turns the bytes of a worker's chat stream into those of the responses API's stream. */
import { ChatBreak, ChatChunk } from './chat.ts';
import type { ResponseEvent, ResponseEvents } from './events.ts';

/** One event of a worker's stream is far smaller. */
const MOST_PENDING = 64 * 1024 * 1024;

export function translate(body: ReadableStream<Uint8Array>, events: ResponseEvents): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const chunks = dataOf(reader);
  const encoder = new TextEncoder();
  const bytesOf = (list: ResponseEvent[]) => encoder.encode(list.map((e) => `event: ${e.type}\ndata: ${JSON.stringify(e)}\n\n`).join(''));
  let begun = false;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (!begun) {
        begun = true;
        controller.enqueue(bytesOf(events.begin()));
        return;
      }
      for (;;) {
        const { list, last } = await next(chunks, events);
        if (list.length > 0) controller.enqueue(bytesOf(list));
        if (last) controller.close();
        // A pull that enqueues nothing is not called again.
        if (last || list.length > 0) return;
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

async function next(chunks: AsyncGenerator<string>, events: ResponseEvents): Promise<{ list: ResponseEvent[]; last: boolean }> {
  try {
    const { value, done } = await chunks.next();
    if (done) return { list: events.fail('The worker broke off its stream.'), last: true };
    if (value === '[DONE]') return { list: events.end(), last: true };
    const data: unknown = JSON.parse(value);
    const broken = ChatBreak.safeParse(data);
    if (broken.success) return { list: events.fail(broken.data.error.message), last: true };
    return { list: events.chunk(ChatChunk.parse(data)), last: false };
  } catch (error) {
    console.error(JSON.stringify({ level: 'error', stream: 'responses', error: String(error) }));
    return { list: events.fail('The worker broke off its stream.'), last: true };
  }
}

/** The `data` of each server-sent event. Workers write one line of it an event. */
async function* dataOf(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let pending = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += decoder.decode(value, { stream: true });
    if (pending.length > MOST_PENDING) throw new Error('an event without an end');
    const blocks = pending.split('\n\n');
    pending = blocks.pop()!;
    for (const block of blocks) if (block.startsWith('data: ')) yield block.slice('data: '.length);
  }
}
