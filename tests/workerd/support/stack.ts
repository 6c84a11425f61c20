/** A real edge on the local Workers runtime with state of its own, an administrator, and callers. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Edge, startEdge } from '../../../cli/edge.ts';
import { randomId } from '../../../shared/ids.ts';

export const SECRET = 'edge-and-worker-secret';
export const S3_SECRET = 'object-storage-secret';
export const ADMIN_KEY = `sy_admin_${randomId(12)}_${randomId(40)}`;

export interface Answer {
  status: number;
  headers: Headers;
  /** Parsed JSON; null when the body is none. */
  // biome-ignore lint/suspicious/noExplicitAny: answers are asserted on field by field
  body: any;
  text: string;
}

export interface Caller {
  key: string;
  get(path: string): Promise<Answer>;
  post(path: string, body: unknown): Promise<Answer>;
  send(method: string, path: string, init?: RequestInit): Promise<Answer>;
}

export interface Stack {
  edge: Edge;
  home: string;
  admin: Caller;
  /** Without a key. */
  nobody: Caller;
  newTenant(options?: { credit?: number; budget?: number }): Promise<Caller & { id: string }>;
  stop(): Promise<void>;
}

export async function startStack(home?: string): Promise<Stack> {
  const folder = home ?? (await mkdtemp(join(tmpdir(), 'switchyard-edge-')));
  const adminKeyHash = createHash('sha256').update(ADMIN_KEY).digest('hex');
  const edge = await startEdge({ port: 0, home: folder, secret: SECRET, adminKeyHash, s3Secret: S3_SECRET });
  const admin = callerOf(edge.url, ADMIN_KEY);
  return {
    edge,
    home: folder,
    admin,
    nobody: callerOf(edge.url, ''),
    async newTenant(options = {}) {
      const { status, body, text } = await admin.post('/v1/admin/tenants', { name: 'a tenant', ...options });
      if (status !== 201) throw new Error(text);
      return { id: body.id as string, ...callerOf(edge.url, body.key) };
    },
    async stop() {
      await edge.stop();
      if (!home) await rm(folder, { recursive: true, force: true });
    },
  };
}

export function callerOf(url: string, key: string): Caller {
  const send = async (method: string, path: string, init: RequestInit = {}): Promise<Answer> => {
    const headers = new Headers(init.headers);
    if (key !== '') headers.set('authorization', `Bearer ${key}`);
    const response = await fetch(url + path, { ...init, method, headers });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : null, text };
  };
  return {
    key,
    send,
    get: (path) => send('GET', path),
    post: (path, body) => send('POST', path, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  };
}
