/**
 * The worker's HTTP surface: node:http directly, since the token stream is the hot path. Bodies are
 * bounded, calls must be signed by the edge unless a route says otherwise, errors go through `toWire`. Each call is
 * told of when it has ended, with the request id and the trace that the edge gave it.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { ReplayGuard, verifyCall } from '../../shared/contract/signature.ts';
import { REQUEST_ID_HEADER, TRACE_HEADER, traceOf } from '../../shared/contract/trace.ts';
import { Failure, toWire } from '../../shared/errors.ts';
import { RequestId } from '../../shared/ids.ts';

const BODY_LIMIT = 100_000_000;

export interface Route {
  method: 'GET' | 'POST';
  path: string;
  /** False only for what tells an operator about the process. */
  signed: boolean;
  handle(body: Uint8Array, response: ServerResponse): Promise<void>;
}

async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_LIMIT) {
      throw new Failure({ kind: 'too_large', message: `${request.method} ${request.url}: expected at most ${BODY_LIMIT} bytes` });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

export function sendJson(response: ServerResponse, body: unknown, status = 200, headers: Record<string, string> = {}): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { ...headers, 'content-type': 'application/json', 'content-length': bytes.length }).end(bytes);
}

export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure({ kind: 'internal', message: 'the worker failed; its log says why' }, { cause: error });
}

function sendFailure(response: ServerResponse, failure: Failure): void {
  // Nothing can be said once a stream has begun: cut it, so that it cannot be taken for a whole one.
  if (response.headersSent) response.destroy();
  else {
    const { status, headers, body } = toWire(failure.value);
    sendJson(response, body, status, headers);
  }
}

export interface HttpOptions {
  secret: string;
  routes: Route[];
  /** Told of failures that are the worker's own. */
  onError: (error: Error, call: string) => void;
  onEnd: (call: EndedCall) => void;
}

export interface EndedCall {
  method: string;
  path: string;
  status: number;
  /** Whether the whole answer left. */
  complete: boolean;
  ms: number;
  /** Of the client's request; absent for calls that serve none. */
  request_id?: string;
  /** Of this call's own span. */
  traceparent?: string;
}

function tellEnd(request: IncomingMessage, response: ServerResponse, onEnd: HttpOptions['onEnd']): void {
  const began = performance.now();
  const id = RequestId.safeParse(request.headers[REQUEST_ID_HEADER]).data;
  const trace = request.headers[TRACE_HEADER];
  response.once('close', () =>
    onEnd({
      method: request.method ?? '',
      path: request.url ?? '',
      status: response.statusCode,
      complete: response.writableFinished,
      ms: Math.round(performance.now() - began),
      ...(id ? { request_id: id } : {}),
      ...(typeof trace === 'string' ? { traceparent: traceOf(trace) } : {}),
    }),
  );
}

export function createHttpServer({ secret, routes, onError, onEnd }: HttpOptions): Server {
  const guard = new ReplayGuard();

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? '';
    const path = request.url ?? '';
    const at = routes.filter((route) => route.path === path);
    const route = at.find((candidate) => candidate.method === method);
    if (!route) {
      if (at.length === 0)
        throw new Failure({ kind: 'not_found', message: `${method} ${path}: there is no such route`, code: 'not_found' });
      const allow = at.map((candidate) => candidate.method);
      throw new Failure({ kind: 'method_not_allowed', message: `${method} ${path}: expected ${allow.join(', ')}`, allow });
    }
    const body = await readBody(request);
    if (route.signed) await verifyCall(secret, 'edge', 'worker', { method, path, body }, request.headers.authorization, guard);
    await route.handle(body, response);
  }

  const server = createServer({ noDelay: true, keepAliveTimeout: 60_000 }, (request, response) => {
    tellEnd(request, response, onEnd);
    serve(request, response).catch((error: unknown) => {
      const failure = asFailure(error);
      if (failure.value.kind === 'internal' || failure.value.kind === 'upstream') onError(failure, `${request.method} ${request.url}`);
      sendFailure(response, failure);
    });
  });
  return server;
}

/** Parses a body that the edge promised to be of this form. */
export function parseJson<T>(schema: { parse(value: unknown): T }, body: Uint8Array, what: string): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(body).toString('utf8')));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Failure({ kind: 'invalid_request', message: `${what}: the body does not follow the contract: ${why}` }, { cause });
  }
}
