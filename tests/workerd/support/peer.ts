/**
 * A peer of the edge that speaks the worker's side of the contract, signatures included, without an
 * engine: it answers /generate, /embed, /seal, /totals and /metrics as each test tells it to. Everything on the edge's side
 * of the wire is real.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ReplayGuard, signCall, verifyCall } from '../../../shared/contract/signature.ts';
import {
  type BaseInfo,
  EmbedRequest,
  GenerateRequest,
  RequestRef,
  SealRequest,
  type SealResult,
  type Totals,
  type UsageRecord,
} from '../../../shared/contract/worker.ts';
import { SECRET } from './stack.ts';

export const sha256 = (text: string | Uint8Array): string => createHash('sha256').update(text).digest('hex');

export const BASE: BaseInfo = {
  id: 'tiny-base',
  revision: sha256('tiny-base'),
  precision: 'fp32',
  family: 'llama',
  task: 'generate',
  context_length: 512,
  vocab_size: 256,
  has_tokenizer: true,
  has_chat_template: true,
};

type Handler<T> = (request: T, res: ServerResponse) => void | Promise<void>;

export class Peer {
  readonly name: string;
  readonly edgeUrl: string;
  readonly generated: GenerateRequest[] = [];
  readonly embedded: EmbedRequest[] = [];
  readonly sealed: SealRequest[] = [];
  /** The headers of each signed call. */
  readonly headers: IncomingMessage['headers'][] = [];
  bases: BaseInfo[] = [BASE];
  /** Name of the list of pins that it has. */
  pins: string | null = null;
  totals: Totals['tenants'] = {};
  onGenerate: Handler<GenerateRequest> = (request, res) =>
    json(res, 200, { echo: request.model, switchyard: { request_id: request.request_id } });
  /** Ids of batches' requests that were cancelled. */
  readonly cancelled: string[] = [];
  /** Asked for the answer to a batch's request that was sent before. */
  onAnswer: Handler<string> = (_, res) => {
    res.writeHead(404).end();
  };
  onEmbed: Handler<EmbedRequest> = (_, res) => json(res, 200, {});
  onSeal: Handler<SealRequest> = (request, res) => json(res, 200, sealResult(request));
  onMetrics: (res: ServerResponse) => void = (res) => res.writeHead(200, { 'content-type': 'text/plain' }).end();
  #server: Server;
  #guard = new ReplayGuard();
  #timer: NodeJS.Timeout | null = null;
  #url = '';

  private constructor(name: string, edgeUrl: string) {
    this.name = name;
    this.edgeUrl = edgeUrl;
    this.#server = createServer((req, res) => {
      this.#answer(req, res).catch((error: unknown) =>
        json(res, 500, { error: { message: String(error), type: 'server_error', param: null, code: null } }),
      );
    });
  }

  /** Listens, and registers with the edge. */
  static async start(edgeUrl: string, name = 'peer-1', bases: BaseInfo[] = [BASE]): Promise<Peer> {
    const peer = new Peer(name, edgeUrl);
    peer.bases = bases;
    await new Promise<void>((resolve) => peer.#server.listen(0, '127.0.0.1', resolve));
    peer.#url = `http://127.0.0.1:${(peer.#server.address() as AddressInfo).port}`;
    await peer.heartbeat();
    peer.#timer = setInterval(() => void peer.heartbeat().catch(() => undefined), 2_000);
    return peer;
  }

  async heartbeat(): Promise<unknown> {
    const { name: worker, bases, pins } = this;
    return this.#call('/internal/heartbeat', { worker, url: this.#url, bases, slots: 8, active: 0, queued: 0, pins });
  }

  async report(records: UsageRecord[]): Promise<{ settled: string[] }> {
    return (await this.#call('/internal/usage', { worker: this.name, records })) as { settled: string[] };
  }

  /** Dies without a word: the edge believes in it until its heartbeats are too old. */
  async stop(): Promise<void> {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #call(path: string, body: unknown): Promise<unknown> {
    const bytes = new TextEncoder().encode(JSON.stringify(body));
    const authorization = await signCall(SECRET, 'worker', 'edge', { method: 'POST', path, body: bytes });
    const response = await fetch(this.edgeUrl + path, {
      method: 'POST',
      body: bytes,
      headers: { authorization, 'content-type': 'application/json' },
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const path = req.url ?? '/';
    if (path === '/metrics') return this.onMetrics(res);
    await verifyCall(SECRET, 'edge', 'worker', { method: req.method ?? 'GET', path, body }, req.headers.authorization, this.#guard);
    this.headers.push(req.headers);
    if (path === '/totals') return json(res, 200, { worker: this.name, tenants: this.totals });
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (path === '/answer') return this.onAnswer(RequestRef.parse(value).request_id, res);
    if (path === '/cancel') {
      this.cancelled.push(RequestRef.parse(value).request_id);
      return void res.writeHead(204).end();
    }
    if (path === '/seal') {
      const request = SealRequest.parse(value);
      this.sealed.push(request);
      return this.onSeal(request, res);
    }
    if (path === '/embed') {
      const request = EmbedRequest.parse(value);
      this.embedded.push(request);
      return this.onEmbed(request, res);
    }
    const request = GenerateRequest.parse(value);
    this.generated.push(request);
    return this.onGenerate(request, res);
  }
}

export function json(res: ServerResponse, status: number, body: unknown): void {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** A seal of the given package; its digest follows from the package's place in storage. */
export function sealResult(request: SealRequest): SealResult {
  const digest = sha256(request.files.map((f) => f.key).join());
  const card = {
    kind: 'lora',
    base: request.base,
    base_revision: sha256(request.base),
    base_model_name_or_path: null,
    rank: 8,
    parameters: 1024,
    targets: [{ module: 'layers.0.q', rank: 8, scale: 2, exactness: 'exact' as const }],
    source: request.files.map((f) => ({ name: f.name, bytes: f.bytes, sha256: sha256(f.name) })),
  };
  return { digest, bytes: 4096, key: `sealed/${digest}`, card };
}

/** What an engine would report of `request`. */
export function usageOf(request: GenerateRequest, tokens: { prompt: number; completion: number; cached?: number }): UsageRecord {
  const { request_id, tenant, key_id, model, base, base_revision, adapters, priority, from_batch } = request;
  return {
    ...{ request_id, tenant, key_id, model, base, base_revision, adapters, priority, from_batch },
    prompt_tokens: tokens.prompt,
    cached_tokens: tokens.cached ?? 0,
    completion_tokens: tokens.completion,
    finished_at: Date.now(),
    outcome: 'finished',
  };
}
