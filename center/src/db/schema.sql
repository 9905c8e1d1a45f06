CREATE TABLE owner(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    network TEXT NOT NULL,
    psk_id INTEGER NOT NULL,
    psk_root BLOB NOT NULL
) STRICT;

-- The center's own CAs have no owner. `wanted` counts the changes of what the list should say, `made` the
-- changes that the stored list carries.
CREATE TABLE issuer(
    key_id TEXT PRIMARY KEY,
    owner INTEGER REFERENCES owner(id),
    kind TEXT NOT NULL CHECK (kind IN ('center', 'operator', 'client', 'edge', 'admin')),
    certificate BLOB NOT NULL,
    wanted INTEGER NOT NULL DEFAULT 0,
    made INTEGER NOT NULL DEFAULT 0,
    crl_number INTEGER,
    crl BLOB,
    crl_entries INTEGER NOT NULL DEFAULT 0,
    this_update_s INTEGER,
    next_update_s INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX issuer_of_owner ON issuer(owner, kind);

CREATE TABLE admin(
    id TEXT PRIMARY KEY,
    owner INTEGER NOT NULL REFERENCES owner(id),
    login TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE edge(
    id TEXT PRIMARY KEY,
    owner INTEGER NOT NULL REFERENCES owner(id),
    name TEXT NOT NULL,
    serial TEXT NOT NULL UNIQUE,
    host INTEGER NOT NULL,
    endpoints TEXT NOT NULL,
    listen_port INTEGER NOT NULL,
    lan TEXT NOT NULL,
    -- Registered beforehand: the device key's fingerprint, or the hash of a one-time token.
    fingerprint TEXT UNIQUE,
    token_hash BLOB,
    token_expires_s INTEGER,
    -- Learnt at enrolment.
    device TEXT UNIQUE,
    tunnel_key TEXT,
    last_seen_ns INTEGER,
    -- The last one taken; a configuration need not have come of it.
    config_seq INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE client(
    id TEXT PRIMARY KEY,
    owner INTEGER NOT NULL REFERENCES owner(id),
    name TEXT NOT NULL,
    host INTEGER NOT NULL,
    push INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('invited', 'enabled', 'disabled', 'revoked')),
    code_hash BLOB NOT NULL UNIQUE,
    code_expires_s INTEGER NOT NULL,
    device TEXT,
    tunnel_key TEXT,
    -- The last change of state, and the list that carries it once it is made.
    changed_ns INTEGER,
    change_wanted INTEGER,
    change_number INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX client_of_owner ON client(owner, name);

-- Host numbers in the owner's network, never given twice while their holder exists.
CREATE TABLE address(
    owner INTEGER NOT NULL REFERENCES owner(id),
    host INTEGER NOT NULL,
    PRIMARY KEY (owner, host)
) STRICT, WITHOUT ROWID;

-- A tunnel key belongs to one subject of one owner, for ever: the key is the primary key over all owners.
CREATE TABLE tunnel_key(
    key TEXT PRIMARY KEY,
    subject TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificate(
    issuer TEXT NOT NULL REFERENCES issuer(key_id),
    serial TEXT NOT NULL,
    subject TEXT NOT NULL,
    use TEXT NOT NULL CHECK (use IN ('tunnel', 'device')),
    der BLOB NOT NULL,
    not_after_s INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'good' CHECK (status IN ('good', 'hold', 'superseded', 'withdrawn')),
    since_s INTEGER,
    PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_of_subject ON certificate(subject, use, not_after_s);
CREATE INDEX certificate_listed ON certificate(issuer, not_after_s) WHERE status <> 'good';

CREATE TABLE config(
    edge TEXT NOT NULL REFERENCES edge(id),
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (edge, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE crl_ack(
    edge TEXT NOT NULL REFERENCES edge(id),
    issuer TEXT NOT NULL REFERENCES issuer(key_id),
    number INTEGER NOT NULL,
    applied_ns INTEGER NOT NULL,
    arrived_ns INTEGER NOT NULL,
    cut TEXT NOT NULL,
    PRIMARY KEY (edge, issuer, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE config_ack(
    edge TEXT NOT NULL REFERENCES edge(id),
    seq INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('confirmed', 'refused')),
    rejected TEXT NOT NULL,
    applied_ns INTEGER NOT NULL,
    arrived_ns INTEGER NOT NULL,
    PRIMARY KEY (edge, seq)
) STRICT, WITHOUT ROWID;
