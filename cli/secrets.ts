/** What a home's processes share in secret, made once and readable by the owner only. Call under the home's lock. */
import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ApiKey, randomId } from '../shared/ids.ts';

const Secrets = z.strictObject({ edgeAndWorker: z.string().min(32), s3: z.string().min(32) });

export interface HomeSecrets extends z.infer<typeof Secrets> {
  adminKey: string;
  adminKeyHash: string;
}

async function readOrMake(path: string, make: () => string): Promise<string> {
  const known = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (known !== null) return known;
  const content = make();
  await writeFile(`${path}.tmp`, content, { mode: 0o600 });
  await rename(`${path}.tmp`, path);
  return content;
}

export async function openSecrets(home: string): Promise<HomeSecrets> {
  const secrets = await readOrMake(join(home, 'secrets.json'), () => JSON.stringify({ edgeAndWorker: randomId(48), s3: randomId(48) }));
  const line = await readOrMake(join(home, 'admin.key'), () => `sy_admin_${randomId(12)}_${randomId(40)}\n`);
  const adminKey = ApiKey.parse(line.trim());
  const adminKeyHash = createHash('sha256').update(adminKey).digest('hex');
  return { ...Secrets.parse(JSON.parse(secrets)), adminKey, adminKeyHash };
}
