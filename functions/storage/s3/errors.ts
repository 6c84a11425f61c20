/** S3's errors: a code, its status, and the XML form that S3 clients parse. */

const STATUS = {
  AccessDenied: 403,
  AuthorizationHeaderMalformed: 400,
  BadDigest: 400,
  EntityTooLarge: 413,
  IncompleteBody: 400,
  InternalError: 500,
  InvalidAccessKeyId: 403,
  InvalidArgument: 400,
  InvalidRange: 416,
  MethodNotAllowed: 405,
  MissingContentLength: 411,
  NoSuchBucket: 404,
  NoSuchKey: 404,
  NotImplemented: 501,
  PreconditionFailed: 412,
  RequestTimeTooSkewed: 403,
  SignatureDoesNotMatch: 403,
} as const;
export type S3Code = keyof typeof STATUS;

export class S3Error extends Error {
  readonly code: S3Code;
  constructor(code: S3Code, message: string) {
    super(message);
    this.name = 'S3Error';
    this.code = code;
  }
}

export function errorResponse(error: S3Error, resource: string, requestId: string, withBody: boolean): Response {
  const body = document(
    'Error',
    element('Code', error.code) + element('Message', error.message) + element('Resource', resource) + element('RequestId', requestId),
  );
  return new Response(withBody ? body : null, { status: STATUS[error.code], headers: { 'content-type': 'application/xml' } });
}

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;', '\r': '&#13;' };

export const element = (name: string, text: string | number | boolean): string =>
  `<${name}>${String(text).replace(/[&<>"'\r]/g, (c) => ESCAPES[c]!)}</${name}>`;

/** `content` is XML already. */
export const document = (root: string, content: string): string => `<?xml version="1.0" encoding="UTF-8"?>\n<${root}>${content}</${root}>`;
