/** The bucket as workers see it: AWS's own client on the gateway. */
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { S3_SECRET, type Stack } from './stack.ts';

export const BUCKET = 'switchyard';

export class Storage extends S3Client {
  async read(key: string): Promise<Uint8Array> {
    const { Body } = await this.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
    return Body!.transformToByteArray();
  }
}

export function s3Client(stack: Stack, secretAccessKey = S3_SECRET): Storage {
  const credentials = { accessKeyId: 'worker', secretAccessKey };
  return new Storage({ endpoint: `${stack.edge.url}/s3`, region: 'auto', forcePathStyle: true, credentials, maxAttempts: 1 });
}

export async function keysUnder(client: S3Client, prefix: string): Promise<string[]> {
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix: prefix }));
  return Contents.map((o) => o.Key!);
}
