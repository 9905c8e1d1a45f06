-- The box's own network, JSON as in its configuration; none = its interfaces are left to others.
ALTER TABLE edge ADD COLUMN network TEXT;
