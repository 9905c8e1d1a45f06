-- The root before, while edges take keys of either, and when that ends. Of a configuration: the root that it brought,
-- which tells what the clients of an edge that confirmed it may use.
ALTER TABLE owner ADD COLUMN psk_previous_id INTEGER;
ALTER TABLE owner ADD COLUMN psk_previous BLOB;
ALTER TABLE owner ADD COLUMN psk_overlap_ends_s INTEGER;
ALTER TABLE config ADD COLUMN psk_id INTEGER;
