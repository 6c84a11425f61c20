/**
 * Files of tenants: rows in D1, bytes in the bucket. A row is written after the bytes and deleted before them,
 * so that a row's bytes are there. Expired files are gone at once and swept when their tenant comes again.
 */
import { and, asc, desc, eq, gt, isNull, lte, or, type SQL, sql } from 'drizzle-orm';
import { type FileObject, type FileQuery, toPage } from '../../shared/contract/files.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { database } from '../storage/database.ts';
import { files } from '../storage/schema.ts';

type Row = typeof files.$inferSelect;

/** As many as R2 deletes in one call. */
const MOST_SWEPT = 1000;

/** Where a file's bytes are in the bucket. */
export const objectOf = (tenant: string, id: string): string => `files/${tenant}/${id}`;

/** Adding the same row again changes nothing: whoever writes a file may be killed on the way and start anew. */
export async function addFile(env: Env, row: Row): Promise<FileObject> {
  await database(env).insert(files).values(row).onConflictDoNothing();
  return toObject(row);
}

/** Throws Failure 'not_found'. */
export async function getFile(env: Env, tenant: string, id: string): Promise<FileObject> {
  const row = await database(env)
    .select()
    .from(files)
    .where(and(mine(tenant), eq(files.id, id)))
    .get();
  if (!row) throw noFile(id);
  return toObject(row);
}

/** Throws Failure 'not_found', also for bytes that went with their row meanwhile. */
export async function openFile(env: Env, tenant: string, id: string): Promise<{ file: FileObject; object: R2ObjectBody }> {
  const file = await getFile(env, tenant, id);
  const object = await env.BUCKET.get(objectOf(tenant, id));
  if (!object) throw noFile(id);
  return { file, object };
}

export async function listFiles(env: Env, tenant: string, { after, limit, order, purpose }: FileQuery) {
  const rows = await database(env)
    .select()
    .from(files)
    .where(
      and(
        mine(tenant),
        purpose === undefined ? undefined : sql`${files.purpose} = ${purpose}`,
        after === undefined ? undefined : await beyond(env, tenant, after, order),
      ),
    )
    .orderBy(...(order === 'asc' ? [asc(files.createdAt), asc(files.id)] : [desc(files.createdAt), desc(files.id)]))
    .limit(limit + 1);
  return toPage(rows.map(toObject), limit);
}

/** Throws Failure 'not_found'. */
export async function deleteFile(env: Env, tenant: string, id: string): Promise<void> {
  const deleted = await database(env)
    .delete(files)
    .where(and(mine(tenant), eq(files.id, id)))
    .returning({ id: files.id });
  if (deleted.length === 0) throw noFile(id);
  await env.BUCKET.delete(objectOf(tenant, id));
}

/** Drops what has expired of a tenant's. */
export async function sweepFiles(env: Env, tenant: string, now: number): Promise<void> {
  const expired = database(env)
    .select({ id: files.id })
    .from(files)
    .where(and(eq(files.tenantId, tenant), lte(files.expiresAt, now)))
    .limit(MOST_SWEPT);
  const swept = await database(env).delete(files).where(sql`${files.id} in ${expired}`).returning({ id: files.id });
  if (swept.length > 0) await env.BUCKET.delete(swept.map(({ id }) => objectOf(tenant, id)));
}

const mine = (tenant: string): SQL | undefined =>
  and(eq(files.tenantId, tenant), or(isNull(files.expiresAt), gt(files.expiresAt, Date.now())));

/** Rows after the file `id` in the list's order. Throws Failure 'invalid_request' when there is no such file. */
async function beyond(env: Env, tenant: string, id: string, order: FileQuery['order']): Promise<SQL> {
  const row = await database(env)
    .select({ createdAt: files.createdAt })
    .from(files)
    .where(and(eq(files.tenantId, tenant), eq(files.id, id)))
    .get();
  if (!row) throw new Failure({ kind: 'invalid_request', message: `after: no such file: ${JSON.stringify(id)}`, param: 'after' });
  const place = sql`(${files.createdAt}, ${files.id})`;
  return order === 'asc' ? sql`${place} > (${row.createdAt}, ${id})` : sql`${place} < (${row.createdAt}, ${id})`;
}

function noFile(id: string): Failure {
  return new Failure({ kind: 'not_found', message: `No such file: ${JSON.stringify(id)}.`, param: 'id', code: 'not_found' });
}

const seconds = (ms: number): number => Math.floor(ms / 1000);

function toObject({ id, bytes, createdAt, expiresAt, filename, purpose }: Row): FileObject {
  return {
    id,
    object: 'file',
    bytes,
    created_at: seconds(createdAt),
    expires_at: expiresAt === null ? null : seconds(expiresAt),
    filename,
    purpose,
    status: 'processed',
    status_details: null,
  };
}
