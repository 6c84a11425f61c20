/** Puts a route into /openapi.json, from the schemas that its handler checks with. */
import { type OpenAPIHono, z } from '@hono/zod-openapi';
import type { AppEnv } from '../env.ts';

interface Description {
  method: 'get' | 'post' | 'patch' | 'delete';
  /** With parameters in braces, as OpenAPI writes them. */
  path: string;
  summary: string;
  body?: z.ZodType;
  /** A multipart form instead of JSON. */
  form?: z.ZodType;
  query?: z.ZodObject;
  answer: z.ZodType;
  /** Of the answer, where it is not JSON. */
  answerType?: string;
  status?: number;
  /** The answer is an event stream when the request says `stream: true`. */
  streams?: boolean;
  /** Needs no key. */
  open?: boolean;
}

const ErrorBody = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
    details: z.array(z.looseObject({ code: z.string(), message: z.string() })).optional(),
  }),
});

export function describe(area: OpenAPIHono<AppEnv>, d: Description): void {
  const names = [...d.path.matchAll(/\{(\w+)\}/g)].map((m) => m[1]!);
  const content = d.body ? { 'application/json': { schema: d.body } } : d.form ? { 'multipart/form-data': { schema: d.form } } : null;
  area.openAPIRegistry.registerPath({
    method: d.method,
    path: d.path,
    summary: d.summary,
    tags: [d.path.split('/')[2] ?? 'operation'],
    ...(d.open ? { security: [] } : {}),
    request: {
      ...(names.length > 0 ? { params: z.object(Object.fromEntries(names.map((n) => [n, z.string()]))) } : {}),
      ...(d.query ? { query: d.query } : {}),
      ...(content ? { body: { required: true, content } } : {}),
    },
    responses: {
      [d.status ?? 200]: {
        description: d.summary,
        content: {
          [d.answerType ?? 'application/json']: { schema: d.answer },
          ...(d.streams ? { 'text/event-stream': { schema: z.string() } } : {}),
        },
      },
      default: { description: 'A failure, in the form of the OpenAI API', content: { 'application/json': { schema: ErrorBody } } },
    },
  });
}

/** OpenAI's list envelope. */
export const listOf = (item: z.ZodType) => z.object({ object: z.literal('list'), data: z.array(item) });
