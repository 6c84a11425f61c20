/**
 * Every failure that can reach a client, as values of one tagged union, and the single exhaustive
 * mapping of those values to OpenAI's error form. Edge and worker both answer through `toWire`.
 */

/** One finding about an uploaded adapter package (wire contract: error.details). */
export interface AdapterFinding {
  code: 'container' | 'tensors' | 'values' | 'shapes' | 'modules' | 'config' | 'files' | 'limits';
  message: string;
  file?: string;
  tensor?: string;
  expected?: string;
  got?: string;
}

export type ErrorValue =
  /** The request is malformed or out of range; `param` names the field. */
  | { kind: 'invalid_request'; message: string; param?: string; code?: string }
  /** A known feature that is not honoured: refused by name, never ignored. */
  | { kind: 'unsupported'; message: string; param?: string }
  | { kind: 'adapter_rejected'; message: string; details: AdapterFinding[] }
  | { kind: 'unauthenticated'; message: string }
  | { kind: 'forbidden'; message: string }
  /** `code` is 'model_not_found' for models and adapters, 'not_found' otherwise. */
  | { kind: 'not_found'; message: string; param?: string; code: 'model_not_found' | 'not_found' }
  | { kind: 'method_not_allowed'; message: string; allow: string[] }
  | { kind: 'conflict'; message: string; param?: string; code?: string }
  | { kind: 'too_large'; message: string; param?: string }
  | { kind: 'rate_limited'; message: string; retryAfterSeconds: number }
  | { kind: 'quota_exhausted'; message: string }
  /** Nobody can take the work now: no live worker, or a full queue. */
  | { kind: 'unavailable'; message: string; retryAfterSeconds: number }
  /** A worker answered wrongly or broke off. */
  | { kind: 'upstream'; message: string }
  | { kind: 'internal'; message: string };

/** An ErrorValue travelling as an exception. */
export class Failure extends Error {
  readonly value: ErrorValue;
  constructor(value: ErrorValue, options?: ErrorOptions) {
    super(value.message, options);
    this.name = 'Failure';
    this.value = value;
  }
}

export interface WireError {
  status: number;
  headers: Record<string, string>;
  body: { error: { message: string; type: string; param: string | null; code: string | null; details?: AdapterFinding[] } };
}

/** Maps a failure to status, headers and OpenAI's body form. */
export function toWire(e: ErrorValue): WireError {
  const wire = (
    status: number,
    type: string,
    code: string | null,
    more: { param?: string | undefined; headers?: Record<string, string>; details?: AdapterFinding[] } = {},
  ): WireError => ({
    status,
    headers: more.headers ?? {},
    body: { error: { message: e.message, type, param: more.param ?? null, code, ...(more.details ? { details: more.details } : {}) } },
  });
  switch (e.kind) {
    case 'invalid_request':
      return wire(400, 'invalid_request_error', e.code ?? null, { param: e.param });
    case 'unsupported':
      return wire(400, 'invalid_request_error', 'unsupported_value', { param: e.param });
    case 'adapter_rejected':
      return wire(400, 'invalid_request_error', 'adapter_rejected', { details: e.details });
    case 'unauthenticated':
      return wire(401, 'invalid_request_error', 'invalid_api_key', { headers: { 'www-authenticate': 'Bearer' } });
    case 'forbidden':
      return wire(403, 'invalid_request_error', 'insufficient_permissions');
    case 'not_found':
      return wire(404, 'invalid_request_error', e.code, { param: e.param });
    case 'method_not_allowed':
      return wire(405, 'invalid_request_error', 'method_not_allowed', { headers: { allow: e.allow.join(', ') } });
    case 'conflict':
      return wire(409, 'invalid_request_error', e.code ?? 'conflict', { param: e.param });
    case 'too_large':
      return wire(413, 'invalid_request_error', 'request_too_large', { param: e.param });
    case 'rate_limited':
      return wire(429, 'rate_limit_error', 'rate_limit_exceeded', { headers: { 'retry-after': String(e.retryAfterSeconds) } });
    case 'quota_exhausted':
      return wire(429, 'insufficient_quota', 'insufficient_quota');
    case 'unavailable':
      return wire(503, 'server_error', 'unavailable', { headers: { 'retry-after': String(e.retryAfterSeconds) } });
    case 'upstream':
      return wire(502, 'server_error', 'bad_upstream');
    case 'internal':
      return wire(500, 'server_error', 'internal_error');
    default:
      return e satisfies never;
  }
}
