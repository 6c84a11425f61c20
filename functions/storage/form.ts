/** Multipart forms, parsed as they arrive: small fields are collected, files come out as events. */
import { decodeField, type MultipartError, make, type PartInfo } from 'multipasta';
import { Failure } from '../../shared/errors.ts';
import { BODY_LIMIT, tooLarge } from '../middleware/body.ts';

const MAX_FIELDS = 16;
const MAX_FIELD_BYTES = 4096;

export interface FormRules {
  /** Form fields that carry files, also when a part names no file. */
  fileFields: readonly string[];
  maxFiles: number;
  /** Why a file may not be in the form; null: it may. */
  refuse(file: PartInfo): Failure | null;
}

/** Of one file after the other: open, data…, close. */
export type FormEvent = { type: 'open'; name: string } | { type: 'data'; chunk: Uint8Array } | { type: 'close' };

export const isForm = (request: Request): boolean => /^multipart\/form-data\b/i.test(request.headers.get('content-type') ?? '');

/** Fills `fields` on the way. Throws Failure. */
export async function* readForm(request: Request, fields: Record<string, string>, rules: FormRules): AsyncGenerator<FormEvent, void> {
  if (Number(request.headers.get('content-length') ?? 0) > BODY_LIMIT) throw tooLarge('The upload', BODY_LIMIT);
  const form = openForm({ 'content-type': request.headers.get('content-type') ?? '' }, fields, rules);
  // Not cancelled when refused: middleware/drain.ts reads the rest.
  for await (const chunk of request.body?.values({ preventCancel: true }) ?? []) {
    form.write(chunk);
    yield* form.take();
  }
  form.end();
}

/** The parser calls back synchronously; `take` hands over what it found in the chunks written so far. */
function openForm(headers: Record<string, string>, fields: Record<string, string>, rules: FormRules) {
  let events: FormEvent[] = [];
  let failure: Failure | null = null;
  const fail = (error: Failure) => {
    failure ??= error;
  };
  const parser = make({
    headers,
    maxParts: rules.maxFiles + MAX_FIELDS,
    maxFieldSize: MAX_FIELD_BYTES,
    maxTotalSize: BODY_LIMIT,
    isFile: (info) => {
      const { name, filename } = named(info);
      return filename !== undefined || rules.fileFields.includes(name);
    },
    onField: (part, value) => {
      const info = named(part);
      if (Object.hasOwn(fields, info.name)) fail(badUpload(`the field ${JSON.stringify(info.name)} is given twice`, info.name));
      fields[info.name] = decodeField(info, value);
    },
    onFile: (part) => {
      const info = named(part);
      const refusal = rules.refuse(info);
      if (refusal) {
        fail(refusal);
        return () => undefined;
      }
      events.push({ type: 'open', name: info.filename ?? '' });
      return (chunk) => events.push(chunk === null ? { type: 'close' } : { type: 'data', chunk });
    },
    onError: (error) => fail(malformed(error, rules)),
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
    take(): FormEvent[] {
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

/** The parser reads no names with characters beyond Latin-1, which clients write as they are (RFC 7578, 5.1). */
function named(part: PartInfo): PartInfo {
  if (part.name !== '') return part;
  const { 'content-disposition': header } = part.headers;
  const read = (parameter: string) =>
    typeof header === 'string' ? new RegExp(`^form-data\\b.*;\\s*${parameter}="([^"]*)"`, 'i').exec(header)?.[1] : undefined;
  const filename = read('filename');
  return { ...part, name: read('name') ?? '', ...(filename === undefined ? {} : { filename }) };
}

function malformed(error: MultipartError, { maxFiles }: FormRules): Failure {
  switch (error._tag) {
    case 'ReachedLimit':
      return error.limit === 'MaxTotalSize'
        ? tooLarge('The upload', BODY_LIMIT)
        : badUpload(`the form exceeds a limit: at most ${maxFiles} files, and fields of ${MAX_FIELD_BYTES} bytes`);
    case 'InvalidBoundary':
      return badUpload('the content-type names no boundary');
    case 'BadHeaders':
      return badUpload("a part's headers are malformed");
    case 'InvalidDisposition':
      return badUpload('a part lacks a form-data disposition with a name');
    case 'EndNotReached':
      return badUpload('the form ends before its last boundary');
    default:
      return error satisfies never;
  }
}

export function badUpload(what: string, param?: string): Failure {
  return new Failure({ kind: 'invalid_request', message: `The upload: ${what}.`, ...(param === undefined ? {} : { param }) });
}
