/** The worker's HTTP server around an engine that plays what a test tells it. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { AdapterTier } from '../../../gpu-worker/server/adapter-tier.ts';
import { generateHandler } from '../../../gpu-worker/server/generate.ts';
import { createHttpServer, type EndedCall } from '../../../gpu-worker/server/http.ts';
import { KeptAnswers, keptRoutes } from '../../../gpu-worker/server/kept-answers.ts';
import { createMeasures } from '../../../gpu-worker/server/metrics.ts';
import type { TextSide } from '../../../gpu-worker/server/prompts.ts';
import type { Engine, EngineEvent, EngineRequest } from '../../../shared/contract/engine.ts';
import { signCall } from '../../../shared/contract/signature.ts';
import type { BaseInfo, GenerateRequest } from '../../../shared/contract/worker.ts';
import { NEUTRAL_REQUEST } from '../../support/neutral.ts';

export const SECRET = 'a secret that only this test knows';

export const BASE: BaseInfo = {
  id: 'bytes',
  revision: 'b'.repeat(64),
  precision: 'fp32',
  family: 'llama',
  task: 'generate',
  context_length: 128,
  vocab_size: 256,
  has_tokenizer: true,
  has_chat_template: true,
};

export interface Played {
  request: EngineRequest;
  /** Events of one step. */
  step(...events: EngineEvent[]): void;
  cancelled: Promise<void>;
}

/** `play` gets each submitted request; it may throw as `submit` does. */
export function playedEngine(play: (played: Played) => void): Engine {
  return {
    base: BASE,
    load: async () => {},
    isResident: () => true,
    unload: async () => {},
    prepareGrammar: async () => {},
    embed() {
      throw new Error('not played');
    },
    stats: () => Promise.reject(new Error('not played')),
    close: async () => {},
    submit(request, onEvents) {
      const cancelled = Promise.withResolvers<void>();
      play({ request, step: (...events) => setImmediate(() => onEvents(events)), cancelled: cancelled.promise });
      return { cancel: cancelled.resolve };
    },
  };
}

export const done = (promptTokens: number, completionTokens: number): EngineEvent => ({
  type: 'done',
  usage: { promptTokens, cachedTokens: 0, completionTokens },
  outcome: 'finished',
});

export async function startWorker(engine: Engine, text: TextSide | null) {
  const ended = { count: 0 };
  const calls: EndedCall[] = [];
  const measures = createMeasures(engine);
  const adapters = new AdapterTier({
    engine,
    images: { load: () => Promise.reject(new Error('no adapters here')) },
    observer: measures.tier,
    budget: 1000,
  });
  const onEnded = () => {
    ended.count++;
  };
  const kept = new KeptAnswers();
  const handle = generateHandler({ worker: 'wrk_test', engine, adapters, text, kept, measures, onEnded });
  const server = createHttpServer({
    secret: SECRET,
    onError: () => {},
    onEnd: (call) => calls.push(call),
    routes: [{ method: 'POST', path: '/generate', signed: true, handle }, ...keptRoutes(kept)],
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    ended,
    calls,
    async generate(request: GenerateRequest, signal?: AbortSignal, more: Record<string, string> = {}): Promise<Response> {
      const body = new TextEncoder().encode(JSON.stringify(request));
      const authorization = await signCall(SECRET, 'edge', 'worker', { method: 'POST', path: '/generate', body });
      return await fetch(`${url}/generate`, { method: 'POST', headers: { authorization, ...more }, body, signal: signal ?? null });
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function generateRequest(more: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    ...NEUTRAL_REQUEST,
    request_id: 'req_000000000000000000000001',
    tenant: 'ten_aaaaaaaaaaaaaaaa',
    key_id: 'key',
    model: 'bytes',
    base: BASE.id,
    base_revision: BASE.revision,
    input: {
      kind: 'chat',
      messages: [{ role: 'user', content: 'hi' }],
      tools: [],
      tool_choice: { type: 'none' },
      parallel_tool_calls: true,
    },
    max_tokens: 10,
    ...more,
  };
}
