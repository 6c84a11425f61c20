-- A tenant's share of a busy worker, relative to other tenants'.
ALTER TABLE tenants ADD COLUMN weight REAL NOT NULL DEFAULT 1;
