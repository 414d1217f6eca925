CREATE TABLE brakes (
    -- products of which AWS's answers would end more at once than is to be believed: a person is waited for
    product_id TEXT NOT NULL REFERENCES products (id),
    kind TEXT NOT NULL CHECK (kind IN ('subscriptions', 'dimensions')),
    held_since_ms INTEGER,              -- null: nothing is held
    confirmed_at_ms INTEGER,            -- what was missing by then was let go
    unlisted INTEGER NOT NULL,          -- what AWS lists no more
    live INTEGER NOT NULL,              -- of so many
    allowed INTEGER NOT NULL,           -- so many would have ended
    PRIMARY KEY (product_id, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE unlisted_endings (
    -- what ended by a second look of late, of which nobody had told an end and no person had let it go
    product_id TEXT NOT NULL REFERENCES products (id),
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX unlisted_endings_by_product ON unlisted_endings (product_id, at_ms);
CREATE INDEX subscriptions_unlisted ON subscriptions (product_id, missing_since_ms)
    WHERE missing_since_ms IS NOT NULL AND ended_at_ms IS NULL;
