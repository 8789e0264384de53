-- The newest schema, complete. The way here from older ones is in migrations.py; a test compares the two.

-- Every migration this file has been through.
CREATE TABLE migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);

-- The facts, appended and never changed. AUTOINCREMENT makes SQLite write down the highest seq ever given (sqlite_sequence), in the same
-- statement: a tail cut off by a plain DELETE shows. Hash: chain.py.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    cause_id TEXT NOT NULL,
    form INTEGER NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL
);
CREATE UNIQUE INDEX events_stream ON events (stream, version);
CREATE INDEX events_kind ON events (kind);
CREATE INDEX events_cause ON events (cause_id);
CREATE INDEX events_at ON events (at);

-- How far each read model has followed the events. fingerprint: of its tables and version; tables: what to drop, as a JSON array.
CREATE TABLE projections (
    name TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    tables TEXT NOT NULL,
    seq INTEGER NOT NULL
);
