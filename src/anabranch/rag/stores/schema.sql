-- One index. Strings are UTF-8; times are seconds since the Unix epoch.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- A source has at most one complete version, which is what is searched, and at most one
-- that is being written. The chunks of abandoned ones are kept for their vectors.
CREATE TABLE source (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: see table.py
    uri TEXT NOT NULL,
    digest TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('writing', 'complete', 'abandoned')),
    chunks INTEGER NOT NULL DEFAULT 0,
    indexed_at REAL
);
CREATE UNIQUE INDEX source_uri ON source (uri, state) WHERE state <> 'abandoned';

CREATE TABLE chunk (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL REFERENCES source (id),
    document TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,  -- a JSON object
    digest BLOB NOT NULL,    -- of the text: equal digests have equal vectors
    vector BLOB NOT NULL     -- float32, little endian, unit length
);
CREATE INDEX chunk_source ON chunk (source);
CREATE INDEX chunk_digest ON chunk (digest);

CREATE VIRTUAL TABLE passage USING fts5 (
    title, text, content = 'chunk', content_rowid = 'id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
-- Merging less often costs searches little and saves a quarter of the time to write.
INSERT INTO passage (passage, rank) VALUES ('automerge', 16);
INSERT INTO passage (passage, rank) VALUES ('hashsize', 4194304);

CREATE TRIGGER chunk_added AFTER INSERT ON chunk BEGIN
    INSERT INTO passage (rowid, title, text) VALUES (new.id, new.title, new.text);
END;
CREATE TRIGGER chunk_removed AFTER DELETE ON chunk BEGIN
    INSERT INTO passage (passage, rowid, title, text)
    VALUES ('delete', old.id, old.title, old.text);
END;
