-- Where the box's records go besides the center, JSON as in its configuration; none = nowhere.
ALTER TABLE edge ADD COLUMN logs TEXT;
