-- The newest heartbeat of each edge, as it said it, with the time and the address from which it arrived.
CREATE TABLE heartbeat(
    edge TEXT NOT NULL PRIMARY KEY REFERENCES edge(id),
    arrived_ns INTEGER NOT NULL,
    source TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
