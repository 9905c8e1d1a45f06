-- Groups of clients, and what each may reach (JSON). The order of the rows is the order of the rules.
CREATE TABLE client_group(
    id TEXT PRIMARY KEY,
    owner INTEGER NOT NULL REFERENCES owner(id),
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    rules TEXT NOT NULL,
    UNIQUE (owner, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE group_member(
    client_group TEXT NOT NULL REFERENCES client_group(id) ON DELETE CASCADE,
    client TEXT NOT NULL REFERENCES client(id),
    PRIMARY KEY (client_group, client)
) STRICT, WITHOUT ROWID;
