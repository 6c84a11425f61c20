/** Time to the first token: what the edge adds to a worker's own, and that a stream's first chunk does not wait for its end. */
import type { GenerateRequest } from '../../../shared/contract/worker.ts';
import { newRequestId } from '../../../shared/ids.ts';
import { NEUTRAL_REQUEST } from '../../support/neutral.ts';
import { randomText } from '../support/base.ts';
import { type Call, stream, streamedBody, whole, wholeBody } from '../support/client.ts';
import { median } from '../support/statistics.ts';
import { type Bench, GENERATED, PROMPT_TOKENS } from './parts.ts';

const EDGE_ADDS_MS = 5;
const FIRST_CHUNK_OVER_ONE_TOKEN = 1.5;
const REPETITIONS = 40;
const FEW_TOKENS = 4;

/** A call of the worker itself, signed before the clock starts: signing belongs to the edge. */
async function directCall({ stack }: Bench, prompt: string, worker: string): Promise<Call> {
  const base = await stack.base();
  const request: GenerateRequest = {
    ...NEUTRAL_REQUEST,
    request_id: newRequestId(),
    tenant: stack.tenant.id,
    key_id: 'bench',
    model: base.id,
    base: base.id,
    base_revision: base.revision,
    input: { kind: 'completion', prompts: [prompt] },
    max_tokens: FEW_TOKENS,
    ignore_eos: true,
    stream: true,
    include_usage: true,
  };
  const body = new TextEncoder().encode(JSON.stringify(request));
  return { url: `${worker}/generate`, headers: await stack.signed('POST', '/generate', body), body };
}

export async function firstToken(bench: Bench): Promise<void> {
  const { stack, base, options, random, report } = bench;
  const baseId = (await stack.base()).id;
  const worker = await stack.workerUrl();
  const url = `${stack.url}/v1/completions`;
  const { headers } = stack;
  const prompt = () => randomText(base.tokenizer, PROMPT_TOKENS, random);
  const samples = { direct: [] as number[], edge: [] as number[], oneToken: [] as number[], long: [] as number[] };
  // The first two warm connections and kernels up.
  for (let i = -2; i < (options.quick ? 5 : REPETITIONS); i++) {
    await report.quiet.pass();
    const direct = await stream(await directCall(bench, prompt(), worker));
    const edge = await stream({ url, headers, body: streamedBody(baseId, prompt(), FEW_TOKENS) });
    const oneToken = await whole({ url, headers, body: wholeBody(baseId, prompt(), 1) });
    const long = await stream({ url, headers, body: streamedBody(baseId, prompt(), GENERATED) });
    if (i < 0) continue;
    samples.direct.push(direct.firstMs);
    samples.edge.push(edge.firstMs);
    samples.oneToken.push(oneToken);
    samples.long.push(long.firstMs);
  }
  const { direct, edge, oneToken, long } = samples;
  report.add(
    { name: 'first token at the worker', unit: 'ms', samples: direct },
    { name: 'first token through the edge', unit: 'ms', samples: edge },
    {
      name: 'the edge adds (difference of medians)',
      unit: 'ms',
      samples: [median(edge) - median(direct)],
      target: { atMost: EDGE_ADDS_MS },
    },
    { name: 'one-token request, whole', unit: 'ms', samples: oneToken },
    { name: `first chunk of ${GENERATED} tokens`, unit: 'ms', samples: long },
    {
      name: 'first chunk / one-token request',
      unit: '×',
      samples: [median(long) / median(oneToken)],
      target: { atMost: FIRST_CHUNK_OVER_ONE_TOKEN },
    },
  );
}
