CREATE TABLE record(
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL,
    edge TEXT NOT NULL,
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    event TEXT NOT NULL,
    arrived_ns INTEGER NOT NULL,
    -- The record as JSON, as the edge wrote it.
    record TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX record_identity ON record(edge, stream, seq);
CREATE INDEX record_of_owner ON record(owner, n);
CREATE TABLE alarm(
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL,
    edge TEXT NOT NULL,
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    detail TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (edge, stream, seq, hash)
) STRICT;
