/**
 * Uploaded adapter packages: a multipart form is parsed as it arrives and its files go to R2 under
 * packages/<tenant>/<upload>/, never more than a part's worth in memory.
 */
import type { PartInfo } from 'multipasta';
import type { SealRequest } from '../../shared/contract/worker.ts';
import { type AdapterFinding, Failure } from '../../shared/errors.ts';
import { randomId } from '../../shared/ids.ts';
import { badUpload, type FormEvent, type FormRules, isForm, readForm } from './form.ts';
import { PartWriter } from './part-writer.ts';

const RULES: FormRules = { fileFields: ['files', 'archive'], maxFiles: 64, refuse: refuseFile };

export interface StagedPackage {
  upload: string;
  fields: Record<string, string>;
  files: SealRequest['files'];
}

const folder = (tenant: string, upload: string): string => `packages/${tenant}/${upload}/`;

/** Throws Failure; nothing stays behind then. */
export async function stagePackage(bucket: R2Bucket, tenant: string, request: Request): Promise<StagedPackage> {
  if (!isForm(request)) throw wrongType(request.headers.get('content-type') ?? '');
  const staged: StagedPackage = { upload: randomId(20), fields: {}, files: [] };
  let writer: PartWriter | null = null;
  try {
    for await (const event of readForm(request, staged.fields, RULES))
      writer = await store(bucket, folder(tenant, staged.upload), staged.files, writer, event);
  } catch (error) {
    await writer?.abort();
    await discardPackage(bucket, tenant, staged.upload);
    throw error;
  }
  return staged;
}

export async function discardPackage(bucket: R2Bucket, tenant: string, upload: string): Promise<void> {
  const { objects } = await bucket.list({ prefix: folder(tenant, upload) });
  if (objects.length > 0) await bucket.delete(objects.map((o) => o.key));
}

async function store(
  bucket: R2Bucket,
  prefix: string,
  files: StagedPackage['files'],
  writer: PartWriter | null,
  event: FormEvent,
): Promise<PartWriter | null> {
  if (event.type === 'open') {
    if (files.some((f) => f.name === event.name)) throw badFile('is in the package twice', event.name);
    files.push({ name: event.name, key: prefix + event.name, bytes: 0 });
    return new PartWriter(bucket, prefix + event.name);
  }
  if (!writer) throw new Error('a file part without a beginning');
  if (event.type === 'data') {
    await writer.write(event.chunk);
    return writer;
  }
  await writer.close();
  files.at(-1)!.bytes = writer.bytes;
  return null;
}

function refuseFile(info: PartInfo): Failure | null {
  if (!RULES.fileFields.includes(info.name))
    return badUpload(`files belong in the field "files", got one in ${JSON.stringify(info.name)}`, info.name);
  const name = info.filename ?? '';
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name)) return badFile('expected a plain file name without folders', name);
  return null;
}

function badFile(what: string, file: string): Failure {
  const details: AdapterFinding[] = [{ code: 'files', message: what, file }];
  return new Failure({ kind: 'adapter_rejected', message: `The package was rejected: file ${JSON.stringify(file)} ${what}.`, details });
}

function wrongType(type: string): Failure {
  const json = /^application\/json\b/i.test(type);
  const message = json
    ? 'Adapters from a JSON source are not supported: upload the package as multipart/form-data.'
    : `Expected content-type multipart/form-data, got ${type === '' ? 'none' : JSON.stringify(type.slice(0, 100))}.`;
  return new Failure(json ? { kind: 'unsupported', message, param: 'source' } : { kind: 'invalid_request', message });
}
