/** Signed calls from the worker to the edge. */
import { signCall } from '../../shared/contract/signature.ts';
import { Heartbeat, HeartbeatAnswer, UsageAnswer, UsageReport } from '../../shared/contract/worker.ts';

const TIMEOUT_MS = 10_000;

export interface EdgeClient {
  heartbeat(beat: Heartbeat, signal: AbortSignal): Promise<HeartbeatAnswer>;
  /** Answers the request ids that are durable now. */
  usage(report: UsageReport, signal: AbortSignal): Promise<string[]>;
}

export function createEdgeClient(edgeUrl: string, secret: string): EdgeClient {
  async function post(path: string, value: unknown, signal: AbortSignal): Promise<unknown> {
    const body = new TextEncoder().encode(JSON.stringify(value));
    const authorization = await signCall(secret, 'worker', 'edge', { method: 'POST', path, body });
    const response = await fetch(edgeUrl + path, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body,
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`POST ${path}: the edge answered ${response.status}: ${text.slice(0, 300)}`);
    return JSON.parse(text);
  }
  return {
    async heartbeat(beat, signal) {
      return HeartbeatAnswer.parse(await post('/internal/heartbeat', Heartbeat.parse(beat), signal));
    },
    async usage(report, signal) {
      return UsageAnswer.parse(await post('/internal/usage', UsageReport.parse(report), signal)).settled;
    },
  };
}
