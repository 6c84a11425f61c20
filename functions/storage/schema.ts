/** D1 tables as drizzle sees them; migrations/ is what creates them. Times are milliseconds since the epoch. */
import { integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { FilePurpose } from '../../shared/contract/files.ts';
import type { AdapterCard } from '../../shared/contract/worker.ts';

export const tenants = sqliteTable('tenants', {
  id: text().primaryKey(),
  name: text().notNull(),
  /** Prepaid amount; null: postpaid. */
  creditNano: integer('credit_nano'),
  /** Most that may be spent in a calendar month (UTC); null: no cap. */
  budgetNano: integer('budget_nano'),
  /** Share of a busy worker, relative to other tenants'. */
  weight: real().notNull(),
  createdAt: integer('created_at').notNull(),
});

export const apiKeys = sqliteTable('api_keys', {
  id: text().primaryKey(),
  tenantId: text('tenant_id').notNull(),
  name: text().notNull(),
  /** SHA-256 of the whole key, hex. */
  hash: text().notNull(),
  createdAt: integer('created_at').notNull(),
  revokedAt: integer('revoked_at'),
});

export const adapters = sqliteTable('adapters', {
  id: text().primaryKey(),
  tenantId: text('tenant_id').notNull(),
  name: text().notNull(),
  base: text().notNull(),
  createdAt: integer('created_at').notNull(),
});

export const files = sqliteTable('files', {
  id: text().primaryKey(),
  tenantId: text('tenant_id').notNull(),
  filename: text().notNull(),
  purpose: text().$type<FilePurpose>().notNull(),
  bytes: integer().notNull(),
  createdAt: integer('created_at').notNull(),
  /** Null: kept until it is deleted. */
  expiresAt: integer('expires_at'),
});

export const adapterVersions = sqliteTable(
  'adapter_versions',
  {
    adapterId: text('adapter_id').notNull(),
    version: integer().notNull(),
    digest: text().notNull(),
    baseRevision: text('base_revision').notNull(),
    bytes: integer().notNull(),
    /** Names the folder of the uploaded package in the bucket. */
    upload: text().notNull(),
    card: text({ mode: 'json' }).$type<AdapterCard>().notNull(),
    createdAt: integer('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.adapterId, t.version] })],
);
