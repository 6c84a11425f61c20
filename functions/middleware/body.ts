/** Reads bodies within bounds and checks them against a schema; a schema's findings become one Failure. */
import type { Context } from 'hono';
import type { z } from 'zod';
import { isShallow, MOST_DEPTH } from '../../shared/contract/fields.ts';
import { type ErrorValue, Failure } from '../../shared/errors.ts';
import type { AppEnv } from '../env.ts';

const JSON_LIMIT = 8 * 1024 * 1024;
/** Cloudflare's own limit on a request's body, kept in development as well. */
export const BODY_LIMIT = 100_000_000;

export function tooLarge(what: string, limit: number): Failure {
  const message = `${what} is larger than ${limit} bytes. For more, use /v1/uploads or S3 multipart.`;
  return new Failure({ kind: 'too_large', message });
}

/** The whole body, refused as soon as it exceeds `limit`. */
export async function readBytes(c: Context<AppEnv>, limit = JSON_LIMIT): Promise<Uint8Array<ArrayBuffer>> {
  const declared = Number(c.req.header('content-length') ?? 0);
  if (declared > limit) throw tooLarge('The request body', limit);
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Not cancelled when refused: middleware/drain.ts reads the rest.
  for await (const chunk of c.req.raw.body?.values({ preventCancel: true }) ?? []) {
    size += chunk.byteLength;
    if (size > limit) throw tooLarge('The request body', limit);
    chunks.push(chunk);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}

export async function readJson<T>(c: Context<AppEnv>, schema: z.ZodType<T>): Promise<T> {
  const type = c.req.header('content-type') ?? '';
  if (!/^application\/([\w.+-]+\+)?json\b/i.test(type)) {
    const got = type === '' ? 'none' : JSON.stringify(type.slice(0, 100));
    throw new Failure({ kind: 'invalid_request', message: `Expected content-type application/json, got ${got}.` });
  }
  return parseJson(await readBytes(c), schema);
}

export function parseJson<T>(bytes: Uint8Array, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Failure({ kind: 'invalid_request', message: `The request body is not valid JSON: ${why}.` });
  }
  return check(schema, value);
}

export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  if (!isShallow(value)) {
    const message = `The request body: expected JSON of at most ${MOST_DEPTH} levels, got more.`;
    throw new Failure({ kind: 'invalid_request', message });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new Failure(describeIssues(parsed.error));
  return parsed.data;
}

/** The first finding, with the path of the field it is about. */
export function describeIssues(error: z.ZodError): ErrorValue {
  const [first] = error.issues;
  if (!first) return { kind: 'invalid_request', message: error.message };
  const issue = innermost(first);
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    const param = [...path, issue.keys[0] ?? ''].join('.');
    return { kind: 'invalid_request', message: `Unrecognized request argument supplied: ${param}`, param, code: 'unknown_parameter' };
  }
  const param = path.join('.');
  if (issue.code === 'custom' && issue.params?.['unsupported'] === true) return { kind: 'unsupported', message: issue.message, param };
  const message = param === '' ? `The request body: ${issue.message}` : `${param}: ${issue.message}`;
  return { kind: 'invalid_request', message, ...(param === '' ? {} : { param }) };
}

type Issue = z.ZodError['issues'][number];

/** Where a schema of several forms has no sentence of its own, the finding in the form that the value follows furthest. */
function innermost(issue: Issue): Issue {
  if (issue.code !== 'invalid_union' || issue.message !== UNTOLD) return issue;
  const inner = issue.errors.flatMap(([first]) => (first ? [innermost(first)] : []));
  const furthest = Math.max(0, ...inner.map(({ path }) => path.length));
  const found = furthest === 0 ? undefined : inner.find(({ path }) => path.length === furthest);
  return found ? { ...found, path: [...issue.path, ...found.path] } : issue;
}

/** What the library says of a union that says nothing itself. */
const UNTOLD = 'Invalid input';
