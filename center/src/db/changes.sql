-- Every change of what a client may, who ordered it, and the list that carries it once that is made. `wanted` is
-- the wish of the issuer's list.
CREATE TABLE client_change(
    client TEXT NOT NULL REFERENCES client(id),
    wanted INTEGER NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('disable', 'enable', 'revoke')),
    ordered_by TEXT NOT NULL,
    changed_ns INTEGER NOT NULL,
    number INTEGER,
    PRIMARY KEY (client, wanted)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_change_open ON client_change(wanted) WHERE number IS NULL;

INSERT INTO client_change(client, wanted, action, ordered_by, changed_ns, number)
    SELECT id, change_wanted, CASE state WHEN 'disabled' THEN 'disable' WHEN 'revoked' THEN 'revoke' ELSE 'enable' END,
        'not recorded', changed_ns, change_number
    FROM client WHERE changed_ns IS NOT NULL AND change_wanted IS NOT NULL;

ALTER TABLE client DROP COLUMN changed_ns;
ALTER TABLE client DROP COLUMN change_wanted;
ALTER TABLE client DROP COLUMN change_number;
