-- Which ring of edges gets which firmware, when each edge may restart, and what the edges told.
CREATE TABLE ring(
    name TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    spread_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE edge ADD COLUMN ring TEXT NOT NULL DEFAULT 'stable';
ALTER TABLE edge ADD COLUMN restart_window TEXT;

CREATE TABLE update_ack(
    id INTEGER PRIMARY KEY,
    edge TEXT NOT NULL REFERENCES edge(id),
    version TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    running TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    arrived_ns INTEGER NOT NULL,
    UNIQUE (edge, version, state, at_ns)
) STRICT;
CREATE INDEX update_ack_edge ON update_ack(edge, id);
