/**
 * Checks AWS Signature Version 4 in the Authorization header (S3's form): the request is signed again
 * with the headers that the client says it signed, and the signatures are compared.
 */
import { AwsV4Signer } from 'aws4fetch';
import { S3Error } from '../storage/s3/errors.ts';
import { equalHex } from './keys.ts';

export interface Credential {
  accessKeyId: string;
  secretAccessKey: string;
}

const MAX_SKEW_MS = 15 * 60_000;
const HEADER =
  /^AWS4-HMAC-SHA256 Credential=([^/,\s]+)\/(\d{8})\/([a-z0-9-]+)\/s3\/aws4_request,\s*SignedHeaders=([a-z0-9;_-]+),\s*Signature=([0-9a-f]{64})$/;
/** Without these under the signature a captured one could be put on another request. */
const MUST_BE_SIGNED = ['host', 'x-amz-content-sha256', 'x-amz-date'];
/** Derived keys by secret, day and region; regions are the client's words, so the map is kept small. */
const derivedKeys = new Map<string, ArrayBuffer>();

/** Throws S3Error unless `request` carries a valid signature of `credential`. */
export async function verifySignature(request: Request, credential: Credential, now: number): Promise<void> {
  const authorization = request.headers.get('authorization');
  if (!authorization) throw new S3Error('AccessDenied', 'The request is not signed: expected an AWS4-HMAC-SHA256 Authorization header.');
  const match = HEADER.exec(authorization);
  if (!match)
    throw new S3Error(
      'AuthorizationHeaderMalformed',
      'Expected AWS4-HMAC-SHA256 with Credential (service s3), SignedHeaders and Signature.',
    );
  const [, accessKeyId, day, region, signedHeaders, signature] = match as unknown as [string, string, string, string, string, string];
  if (accessKeyId !== credential.accessKeyId) throw new S3Error('InvalidAccessKeyId', 'The access key id does not exist.');
  const datetime = request.headers.get('x-amz-date') ?? '';
  checkTime(datetime, day, now);
  const names = signedHeaders.split(';');
  for (const name of [...MUST_BE_SIGNED, ...amzHeaders(request.headers)]) {
    if (!names.includes(name)) throw new S3Error('AccessDenied', `The header ${name} is not signed.`);
  }
  const headers = new Headers();
  for (const name of names) headers.set(name, request.headers.get(name) ?? '');
  if (derivedKeys.size > 64) derivedKeys.clear();
  const signer = new AwsV4Signer({
    method: request.method,
    url: request.url,
    headers,
    ...credential,
    service: 's3',
    region,
    datetime,
    allHeaders: true,
    cache: derivedKeys,
  });
  if (!equalHex(await signer.signature(), signature))
    throw new S3Error('SignatureDoesNotMatch', 'The signature does not match the request.');
}

function checkTime(datetime: string, day: string, now: number): void {
  const at = Date.parse(datetime.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (Number.isNaN(at) || !datetime.startsWith(day)) {
    throw new S3Error('AccessDenied', 'Expected x-amz-date as YYYYMMDDTHHMMSSZ, on the day of the credential.');
  }
  if (Math.abs(at - now) > MAX_SKEW_MS) {
    throw new S3Error('RequestTimeTooSkewed', "The request's time and the server's differ by more than 15 minutes.");
  }
}

const amzHeaders = (headers: Headers): string[] => [...headers.keys()].filter((name) => name.startsWith('x-amz-'));
