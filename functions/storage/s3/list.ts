/** S3 ListObjectsV2 on R2. */
import { document, element, S3Error } from './errors.ts';

const MAX_KEYS = 1000;
const PARAMETERS = new Set([
  ...['list-type', 'prefix', 'delimiter', 'max-keys', 'continuation-token', 'start-after', 'encoding-type', 'x-id'],
]);

export async function listObjects(bucket: R2Bucket, name: string, query: URLSearchParams): Promise<Response> {
  if (query.get('list-type') !== '2') throw new S3Error('NotImplemented', 'Of operations on a bucket only ListObjectsV2 is supported.');
  for (const key of query.keys()) {
    if (!PARAMETERS.has(key)) throw new S3Error('NotImplemented', `The query parameter ${key} is not supported.`);
  }
  const encoding = query.get('encoding-type');
  if (encoding !== null && encoding !== 'url') throw new S3Error('InvalidArgument', 'encoding-type: expected "url".');
  const maxKeys = Number(query.get('max-keys') ?? MAX_KEYS);
  if (!Number.isInteger(maxKeys) || maxKeys < 1) throw new S3Error('InvalidArgument', 'max-keys: expected a positive whole number.');
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter')];
  const [token, startAfter] = [query.get('continuation-token'), query.get('start-after')];
  const listed = await bucket.list({
    limit: Math.min(maxKeys, MAX_KEYS),
    ...(prefix === '' ? {} : { prefix }),
    ...(delimiter ? { delimiter } : {}),
    ...(token === null ? {} : { cursor: token }),
    ...(startAfter === null ? {} : { startAfter }),
  });
  const encode = (text: string) => (encoding === 'url' ? encodeURIComponent(text).replaceAll('%2F', '/') : text);
  const contents = listed.objects.map((o) => contentsOf(encode(o.key), o));
  const folders = listed.delimitedPrefixes.map((p) => `<CommonPrefixes>${element('Prefix', encode(p))}</CommonPrefixes>`);
  const body = document(
    'ListBucketResult',
    [
      element('Name', name),
      element('Prefix', encode(prefix)),
      delimiter ? element('Delimiter', encode(delimiter)) : '',
      element('MaxKeys', maxKeys),
      encoding === null ? '' : element('EncodingType', encoding),
      element('KeyCount', contents.length + folders.length),
      element('IsTruncated', listed.truncated),
      token === null ? '' : element('ContinuationToken', token),
      listed.truncated ? element('NextContinuationToken', listed.cursor) : '',
      startAfter === null ? '' : element('StartAfter', encode(startAfter)),
      ...contents,
      ...folders,
    ].join(''),
  );
  return new Response(body, { headers: { 'content-type': 'application/xml' } });
}

function contentsOf(key: string, o: R2Object): string {
  const fields = [
    element('Key', key),
    element('LastModified', o.uploaded.toISOString()),
    element('ETag', o.httpEtag),
    element('Size', o.size),
    element('StorageClass', 'STANDARD'),
  ];
  return `<Contents>${fields.join('')}</Contents>`;
}
