-- An edge may take back what it had in force. SQLite changes a CHECK only by a new table.
CREATE TABLE config_ack_new(
    edge TEXT NOT NULL REFERENCES edge(id),
    seq INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('confirmed', 'refused', 'reverted')),
    rejected TEXT NOT NULL,
    applied_ns INTEGER NOT NULL,
    arrived_ns INTEGER NOT NULL,
    PRIMARY KEY (edge, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO config_ack_new SELECT * FROM config_ack;
DROP TABLE config_ack;
ALTER TABLE config_ack_new RENAME TO config_ack;
-- An admin's leave to remove most of what an edge has: 1 = wished, 2 = in a signed configuration, 0 = used up.
ALTER TABLE edge ADD COLUMN allow_shrink INTEGER NOT NULL DEFAULT 0 CHECK (allow_shrink IN (0, 1, 2));
