/** The lines of a batch's input file: where each is, and what is wrong with it. Bounded, whatever the bytes. */
import { type BatchEndpoint, type BatchError, BatchRequest } from '../../shared/contract/batches.ts';

export const MOST_LINES = 50_000;
/** As much as one request may have anywhere. */
const MOST_LINE_BYTES = 8 * 1024 * 1024;

interface Line {
  /** From 1. */
  number: number;
  offset: number;
  /** Null: longer than a line may be. */
  bytes: Uint8Array | null;
}

const NEWLINE = 0x0a;

/** Lines without their newlines; blank ones are left out. */
export async function* linesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let pieces: Uint8Array[] = [];
  let length = 0;
  let offset = 0;
  let number = 1;
  const take = (): Line => {
    const line = { number, offset, bytes: length > MOST_LINE_BYTES ? null : joined(pieces) };
    offset += length + 1;
    number++;
    pieces = [];
    length = 0;
    return line;
  };
  const add = (piece: Uint8Array) => {
    length += piece.byteLength;
    if (length <= MOST_LINE_BYTES) pieces.push(piece);
  };
  for await (const chunk of body) {
    let at = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
      add(chunk.subarray(at, end));
      const line = take();
      if (!isBlank(line)) yield line;
      at = end + 1;
    }
    if (at < chunk.byteLength) add(chunk.subarray(at));
  }
  const last = take();
  if (!isBlank(last)) yield last;
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** Spaces, tabs and carriage returns only. */
const isBlank = ({ bytes }: Line): boolean => bytes?.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d) ?? false;

export type Checked = { ok: true; customId: string } | { ok: false; error: BatchError };

/** What a line must be before the batch may run. */
export function checkLine({ number: line, bytes }: Line, endpoint: BatchEndpoint): Checked {
  const wrong = (code: string, message: string, param: string | null = null): Checked => ({
    ok: false,
    error: { code, message, param, line },
  });
  if (bytes === null) return wrong('line_too_long', `A line may have at most ${MOST_LINE_BYTES} bytes.`);
  let value: unknown;
  try {
    value = parseLine(bytes);
  } catch {
    return wrong('invalid_json_line', 'This line is not parseable as valid JSON.');
  }
  const parsed = BatchRequest.safeParse(value);
  if (!parsed.success) {
    const { path, message, code, ...issue } = parsed.error.issues[0]!;
    const unknown = code === 'unrecognized_keys' && 'keys' in issue ? issue.keys[0] : undefined;
    const param = [...path, ...(unknown === undefined ? [] : [unknown])].join('.');
    return wrong('invalid_request', param === '' ? message : `${param}: ${message}`, param === '' ? null : param);
  }
  const { url, custom_id: customId } = parsed.data;
  if (url !== endpoint)
    return wrong('invalid_url', `The url ${JSON.stringify(url.slice(0, 100))} differs from the batch's endpoint ${endpoint}.`, 'url');
  return { ok: true, customId };
}

export function parseLine(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes));
}
