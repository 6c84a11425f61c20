-- Files of tenants; their bytes are in the bucket under files/<tenant>/<id>.
CREATE TABLE files (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  filename TEXT NOT NULL,
  purpose TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER
);
CREATE INDEX files_tenant_created ON files (tenant_id, created_at, id);
CREATE INDEX files_tenant_expiry ON files (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
