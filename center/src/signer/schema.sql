CREATE TABLE center(host TEXT NOT NULL) STRICT;
CREATE TABLE owner(code TEXT PRIMARY KEY, network TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE issuer(
    key_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('center', 'operator', 'client', 'edge', 'admin')),
    owner TEXT REFERENCES owner(code),
    certificate BLOB NOT NULL,
    crl_number INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX issuer_of_owner ON issuer(owner, kind);
CREATE TABLE edge(
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES owner(code),
    seq INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
-- Every leaf of a client CA or an edge CA until some days after its end. One that is `final` is on each list of
-- its issuer, whatever the web tier asks for.
CREATE TABLE leaf(
    issuer TEXT NOT NULL REFERENCES issuer(key_id),
    serial BLOB NOT NULL,
    subject TEXT NOT NULL,
    not_after_s INTEGER NOT NULL,
    final TEXT CHECK (final IN ('superseded', 'withdrawn')),
    since_s INTEGER,
    PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX leaf_of_subject ON leaf(issuer, subject);
CREATE INDEX leaf_end ON leaf(issuer, not_after_s);
CREATE INDEX leaf_final ON leaf(issuer, not_after_s) WHERE final IS NOT NULL;
-- Subjects that were revoked for good: they never get a leaf again.
CREATE TABLE withdrawn(
    issuer TEXT NOT NULL REFERENCES issuer(key_id),
    subject TEXT NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
-- One row for each signature; nothing is ever changed in it or taken from it.
CREATE TABLE journal(
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s INTEGER NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    sha256 BLOB NOT NULL
) STRICT;
CREATE TRIGGER journal_update BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_delete BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
