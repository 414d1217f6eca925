-- When somebody had it erased who the customer is.
ALTER TABLE customers ADD COLUMN erased_at_ms INTEGER;
-- When the body was erased, since it named somebody who is erased.
ALTER TABLE notifications ADD COLUMN erased_at_ms INTEGER;

CREATE TABLE erasures (
    -- erasures that are under way: history goes in pieces, and a stop in between must not lose what is left to do
    customer_id TEXT PRIMARY KEY,       -- the opaque id
    words TEXT NOT NULL                 -- JSON list: what names the customer in the bodies of messages
) STRICT, WITHOUT ROWID;
