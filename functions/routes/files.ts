/** Files: upload, list, read, delete. A 200 for an upload means that bytes and row are durable. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { FileDeleted, FileObject, FileQuery, pageOf } from '../../shared/contract/files.ts';
import type { AppEnv } from '../env.ts';
import { deleteFile, getFile, listFiles, openFile, sweepFiles } from '../files/files.ts';
import { receiveFile } from '../files/upload.ts';
import { anyKey, tenantOf } from '../middleware/authenticate.ts';
import { check } from '../middleware/body.ts';
import { describe } from './describe.ts';

export const files = new OpenAPIHono<AppEnv>();
files.use('/v1/files', anyKey());
files.use('/v1/files/*', anyKey());

const Form = z.object({ purpose: z.enum(['batch', 'fine-tune']), file: z.string().meta({ format: 'binary' }) });

describe(files, { method: 'post', path: '/v1/files', summary: 'Upload a file', form: Form, answer: FileObject });
files.post('/v1/files', async (c) => {
  const tenant = tenantOf(c).tenant.id;
  // Runs to its end even if the client leaves: it either happened or left nothing.
  const received = receiveFile(c.env, tenant, c.req.raw);
  c.executionCtx.waitUntil(received.catch(() => undefined));
  const file = await received;
  c.executionCtx.waitUntil(sweepFiles(c.env, tenant, Date.now()));
  return c.json(file);
});

const Described = z.object({ after: z.string(), limit: z.string(), order: z.string(), purpose: z.string() }).partial();
describe(files, { method: 'get', path: '/v1/files', summary: 'List your files', query: Described, answer: pageOf(FileObject) });
files.get('/v1/files', async (c) => {
  const tenant = tenantOf(c).tenant.id;
  c.executionCtx.waitUntil(sweepFiles(c.env, tenant, Date.now()));
  return c.json(await listFiles(c.env, tenant, check(FileQuery, c.req.query())));
});

describe(files, { method: 'get', path: '/v1/files/{id}', summary: 'Describe a file', answer: FileObject });
files.get('/v1/files/:id', async (c) => c.json(await getFile(c.env, tenantOf(c).tenant.id, c.req.param('id'))));

describe(files, { method: 'delete', path: '/v1/files/{id}', summary: 'Delete a file', answer: FileDeleted });
files.delete('/v1/files/:id', async (c) => {
  const id = c.req.param('id');
  await deleteFile(c.env, tenantOf(c).tenant.id, id);
  return c.json({ id, object: 'file', deleted: true } satisfies z.infer<typeof FileDeleted>);
});

describe(files, {
  method: 'get',
  path: '/v1/files/{id}/content',
  summary: "Read a file's bytes",
  answer: z.string().meta({ format: 'binary' }),
  answerType: 'application/octet-stream',
});
files.get('/v1/files/:id/content', async (c) => {
  const { file, object } = await openFile(c.env, tenantOf(c).tenant.id, c.req.param('id'));
  return new Response(object.body, {
    headers: {
      'content-type': 'application/octet-stream',
      'content-length': String(file.bytes),
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`,
    },
  });
});
