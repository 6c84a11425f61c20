/**
 * Uploaded adapter packages: a multipart form is parsed as it arrives and its files go to R2 under
 * packages/<tenant>/<upload>/, never more than a part's worth in memory.
 */
import { decodeField, type MultipartError, make, type PartInfo } from 'multipasta';
import type { SealRequest } from '../../shared/contract/worker.ts';
import { type AdapterFinding, Failure } from '../../shared/errors.ts';
import { randomId } from '../../shared/ids.ts';
import { BODY_LIMIT, tooLarge } from '../middleware/body.ts';
import { PartWriter } from './part-writer.ts';

const MAX_FILES = 64;
const MAX_FIELDS = 16;
const MAX_FIELD_BYTES = 4096;
/** Form fields that carry files. */
const FILE_FIELDS = ['files', 'archive'];

export interface StagedPackage {
  upload: string;
  fields: Record<string, string>;
  files: SealRequest['files'];
}

type Event = { type: 'open'; name: string } | { type: 'data'; chunk: Uint8Array } | { type: 'close' };

const folder = (tenant: string, upload: string): string => `packages/${tenant}/${upload}/`;

/** Throws Failure; nothing stays behind then. */
export async function stagePackage(bucket: R2Bucket, tenant: string, request: Request): Promise<StagedPackage> {
  const type = request.headers.get('content-type') ?? '';
  if (!/^multipart\/form-data\b/i.test(type)) throw wrongType(type);
  if (Number(request.headers.get('content-length') ?? 0) > BODY_LIMIT) throw tooLarge('The upload', BODY_LIMIT);
  const staged: StagedPackage = { upload: randomId(20), fields: {}, files: [] };
  const form = openForm({ 'content-type': type }, staged.fields);
  let writer: PartWriter | null = null;
  try {
    // Not cancelled when refused: middleware/drain.ts reads the rest.
    for await (const chunk of request.body?.values({ preventCancel: true }) ?? []) {
      form.write(chunk);
      for (const event of form.take()) writer = await store(bucket, folder(tenant, staged.upload), staged.files, writer, event);
    }
    form.end();
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
  event: Event,
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

/** The parser calls back synchronously; `take` hands over what it found in the chunks written so far. */
function openForm(headers: Record<string, string>, fields: Record<string, string>) {
  let events: Event[] = [];
  let failure: Failure | null = null;
  const fail = (error: Failure) => {
    failure ??= error;
  };
  const parser = make({
    headers,
    maxParts: MAX_FILES + MAX_FIELDS,
    maxFieldSize: MAX_FIELD_BYTES,
    maxTotalSize: BODY_LIMIT,
    isFile: (info) => info.filename !== undefined || FILE_FIELDS.includes(info.name),
    onField: (info, value) => {
      if (Object.hasOwn(fields, info.name)) fail(invalid(`the field ${JSON.stringify(info.name)} is given twice`, info.name));
      fields[info.name] = decodeField(info, value);
    },
    onFile: (info) => {
      const refusal = refuseFile(info);
      if (refusal) {
        fail(refusal);
        return () => undefined;
      }
      events.push({ type: 'open', name: info.filename! });
      return (chunk) => events.push(chunk === null ? { type: 'close' } : { type: 'data', chunk });
    },
    onError: (error) => fail(malformed(error)),
    onDone: () => undefined,
  });
  const raise = () => {
    if (failure) throw failure;
  };
  return {
    write(chunk: Uint8Array) {
      parser.write(chunk);
      raise();
    },
    take(): Event[] {
      const taken = events;
      events = [];
      return taken;
    },
    end() {
      parser.end();
      raise();
    },
  };
}

function refuseFile(info: PartInfo): Failure | null {
  if (!FILE_FIELDS.includes(info.name))
    return invalid(`files belong in the field "files", got one in ${JSON.stringify(info.name)}`, info.name);
  const name = info.filename ?? '';
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name)) return badFile('expected a plain file name without folders', name);
  return null;
}

function malformed(error: MultipartError): Failure {
  switch (error._tag) {
    case 'ReachedLimit':
      return error.limit === 'MaxTotalSize'
        ? tooLarge('The upload', BODY_LIMIT)
        : invalid(`the form exceeds a limit: at most ${MAX_FILES} files, and fields of ${MAX_FIELD_BYTES} bytes`);
    case 'InvalidBoundary':
      return invalid('the content-type names no boundary');
    case 'BadHeaders':
      return invalid("a part's headers are malformed");
    case 'InvalidDisposition':
      return invalid('a part lacks a form-data disposition with a name');
    case 'EndNotReached':
      return invalid('the form ends before its last boundary');
    default:
      return error satisfies never;
  }
}

function invalid(what: string, param?: string): Failure {
  return new Failure({ kind: 'invalid_request', message: `The upload: ${what}.`, ...(param === undefined ? {} : { param }) });
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
