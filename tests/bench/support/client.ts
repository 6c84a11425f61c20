/** A client of the completions API that notes when things arrive. */

export interface Timing {
  /** From the call to the first chunk of the stream, in ms. */
  firstMs: number;
  totalMs: number;
  tokens: number;
}

export interface Call {
  url: string;
  headers: Record<string, string>;
  body: string | Uint8Array<ArrayBuffer>;
}

async function open({ url, headers, body }: Call): Promise<Response> {
  const response = await fetch(url, { method: 'POST', headers, body });
  if (!response.ok || !response.body) throw new Error(`POST ${url}: ${response.status} ${(await response.text()).slice(0, 500)}`);
  return response;
}

/** Reads a stream to its end; the request must ask for usage. */
export async function stream(call: Call): Promise<Timing> {
  const began = performance.now();
  const response = await open(call);
  let firstMs: number | null = null;
  let text = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body!) {
    text += decoder.decode(bytes, { stream: true });
    if (firstMs === null && text.includes('data: ')) firstMs = performance.now() - began;
  }
  const totalMs = performance.now() - began;
  const tokens = /"completion_tokens":(\d+)/.exec(text)?.[1];
  if (firstMs === null || tokens === undefined || !text.endsWith('data: [DONE]\n\n'))
    throw new Error(
      `POST ${call.url}: expected a whole stream with usage, got ${text.length} characters ending in ${JSON.stringify(text.slice(-200))}`,
    );
  return { firstMs, totalMs, tokens: Number(tokens) };
}

/** Milliseconds of a request that is answered in one piece. */
export async function whole(call: Call): Promise<number> {
  const began = performance.now();
  await (await open(call)).arrayBuffer();
  return performance.now() - began;
}

/** The body of a streamed completion, greedy and exactly `maxTokens` long. */
export const streamedBody = (model: string, prompt: string, maxTokens: number): string =>
  JSON.stringify({ ...common(model, prompt, maxTokens), stream: true, stream_options: { include_usage: true } });

export const wholeBody = (model: string, prompt: string, maxTokens: number): string => JSON.stringify(common(model, prompt, maxTokens));

const common = (model: string, prompt: string, maxTokens: number) => ({
  model,
  prompt,
  max_tokens: maxTokens,
  temperature: 0,
  ignore_eos: true,
});
