/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/): a request's trace goes from the client through the edge to
 * the worker, each under a span of its own, and both write it to their logs beside the request's id; the edge writes a
 * line for requests whose trace is sampled. Without a trace from the client the edge begins one, not sampled.
 * `tracestate` is others' business and is not passed on; answers carry no trace.
 */
export const TRACE_HEADER = 'traceparent';
export const REQUEST_ID_HEADER = 'x-request-id';

const FORM = /^(?!ff)[0-9a-f]{2}-(?<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?<flags>[0-9a-f]{2})(?:$|-)/;
const NOT_SAMPLED = '00';

const hex = (bytes: number): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** A span of the caller's trace, or of a new trace when the header is absent or malformed, as the standard demands. */
export function traceOf(header: string | null | undefined): string {
  const { trace, flags } = FORM.exec(header ?? '')?.groups ?? {};
  return `00-${trace ?? hex(16)}-${hex(8)}-${flags ?? NOT_SAMPLED}`;
}

/** Whether whoever began the trace wants to find it in logs. */
export const isSampled = (trace: string): boolean => (Number.parseInt(trace.slice(-2), 16) & 1) === 1;
