-- How often somebody set the reader to another place: what was read for it before that is void.
ALTER TABLE cursors ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
-- Since when a daemon has run without this reader; null: it reads.
ALTER TABLE cursors ADD COLUMN left_at_ms INTEGER;

CREATE TABLE webhook_posted (
    -- events beyond the webhook's cursor that the application has taken already
    seq INTEGER PRIMARY KEY
) STRICT;
