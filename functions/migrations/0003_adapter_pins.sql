-- Adapters that workers keep in memory. Version 0 stands for the newest, whichever that is.
CREATE TABLE adapter_pins (
  adapter_id TEXT NOT NULL REFERENCES adapters (id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (adapter_id, version)
);
