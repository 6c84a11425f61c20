/** A client of the completions API that notes when things arrive. */

export interface Timing {
  /** From the call to the first chunk of the stream, in ms. */
  firstMs: number;
  totalMs: number;
  tokens: number;
  /** Between one chunk and the next, in ms. */
  gapsMs: number[];
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
  let previous = began;
  const gapsMs: number[] = [];
  let text = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body!) {
    text += decoder.decode(bytes, { stream: true });
    const now = performance.now();
    if (firstMs !== null) gapsMs.push(now - previous);
    else if (text.includes('data: ')) firstMs = now - began;
    previous = now;
  }
  const totalMs = performance.now() - began;
  const tokens = /"completion_tokens":(\d+)/.exec(text)?.[1];
  if (firstMs === null || tokens === undefined || !text.endsWith('data: [DONE]\n\n'))
    throw new Error(
      `POST ${call.url}: expected a whole stream with usage, got ${text.length} characters ending in ${JSON.stringify(text.slice(-200))}`,
    );
  return { firstMs, totalMs, tokens: Number(tokens), gapsMs };
}

/** Milliseconds of a request that is answered in one piece. */
export async function whole(call: Call): Promise<number> {
  const began = performance.now();
  await (await open(call)).arrayBuffer();
  return performance.now() - began;
}

/** What many requests took together. */
export interface Load {
  /** Generated tokens a second, from the first call to the end of the last answer. */
  speed: number;
  timings: Timing[];
}

async function loadOf(began: number, calls: Promise<Timing>[]): Promise<Load> {
  const timings = await Promise.all(calls);
  const tokens = timings.reduce((sum, timing) => sum + timing.tokens, 0);
  return { speed: (tokens * 1000) / (performance.now() - began), timings };
}

/** `clients` that each send one request after another until `total` were sent. */
export async function closedLoop(clients: number, total: number, call: (i: number) => Call): Promise<Load> {
  const began = performance.now();
  const timings: Promise<Timing>[] = [];
  let next = 0;
  const client = async () => {
    while (next < total) {
      const timing = stream(call(next++));
      timings.push(timing);
      await timing;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return loadOf(began, timings);
}

/** Sends request i at `at[i]` ms, whatever became of those before it. */
export async function openLoop(at: readonly number[], call: (i: number) => Call): Promise<Load> {
  const began = performance.now();
  const timings = at.map(async (ms, i) => {
    await new Promise((resolve) => setTimeout(resolve, began + ms - performance.now()));
    return stream(call(i));
  });
  return loadOf(began, timings);
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
