/** POST /v1/files: one file of a form, streamed into the bucket; its row is written once the bytes are durable. */
import { FileFields, type FileObject } from '../../shared/contract/files.ts';
import { Failure } from '../../shared/errors.ts';
import { newFileId } from '../../shared/ids.ts';
import type { Env } from '../env.ts';
import { check } from '../middleware/body.ts';
import { badUpload, type FormRules, isForm, readForm } from '../storage/form.ts';
import { PartWriter } from '../storage/part-writer.ts';
import { addFile, objectOf } from './files.ts';

const MOST_FILENAME = 255;

const RULES: FormRules = {
  fileFields: ['file'],
  maxFiles: 1,
  refuse({ name, filename = '' }) {
    if (name !== 'file') return badUpload(`the file belongs in the field "file", got one in ${JSON.stringify(name)}`, name);
    if (filename === '' || filename.length > MOST_FILENAME)
      return badUpload(`expected a file name of 1 to ${MOST_FILENAME} characters`, 'file');
    return null;
  },
};

/** Throws Failure; nothing stays behind then. */
export async function receiveFile(env: Env, tenant: string, request: Request): Promise<FileObject> {
  if (!isForm(request)) throw new Failure({ kind: 'invalid_request', message: 'Expected content-type multipart/form-data.' });
  const id = newFileId();
  const writer = new PartWriter(env.BUCKET, objectOf(tenant, id));
  const fields: Record<string, string> = {};
  let filename: string | null = null;
  try {
    for await (const event of readForm(request, fields, RULES)) {
      if (event.type === 'open' && filename !== null) throw badUpload('expected one file, got several', 'file');
      if (event.type === 'open') filename = event.name;
      else if (event.type === 'data') await writer.write(event.chunk);
    }
    if (filename === null) throw badUpload('the file is missing', 'file');
    const { purpose, 'expires_after[seconds]': lifetime } = check(FileFields, fields);
    await writer.close();
    const createdAt = Date.now();
    const expiresAt = lifetime === undefined ? null : createdAt + lifetime * 1000;
    return await addFile(env, { id, tenantId: tenant, filename, purpose, bytes: writer.bytes, createdAt, expiresAt });
  } catch (error) {
    await writer.abort();
    await env.BUCKET.delete(writer.key);
    throw error;
  }
}
