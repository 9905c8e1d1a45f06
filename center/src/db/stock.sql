-- Boxes that were made and have no owner yet. Claiming one moves its credential into `edge`.
CREATE TABLE stock(
    serial TEXT PRIMARY KEY,
    -- One of them: the device key's fingerprint, or the hash of a one-time token.
    fingerprint TEXT UNIQUE,
    token_hash BLOB,
    token_expires_s INTEGER,
    last_seen_ns INTEGER
) STRICT, WITHOUT ROWID;
