-- The registry: who may call, and what each tenant has uploaded. Money lives in the Ledger objects.
CREATE TABLE tenants (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  credit_nano INTEGER,
  budget_nano INTEGER,
  created_at INTEGER NOT NULL
);

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  hash TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id);

CREATE TABLE adapters (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  base TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX adapters_tenant_name ON adapters (tenant_id, name);

CREATE TABLE adapter_versions (
  adapter_id TEXT NOT NULL REFERENCES adapters (id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  base_revision TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  upload TEXT NOT NULL,
  card TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (adapter_id, version)
);
