-- Set while a person has the webhook post nothing, and who.
ALTER TABLE cursors ADD COLUMN paused_at_ms INTEGER;
ALTER TABLE cursors ADD COLUMN paused_by TEXT;
-- When the application last took an event, when it last refused one and in which words, and when a person last tried it.
ALTER TABLE cursors ADD COLUMN taken_at_ms INTEGER;
ALTER TABLE cursors ADD COLUMN refused_at_ms INTEGER;
ALTER TABLE cursors ADD COLUMN refusal TEXT;
ALTER TABLE cursors ADD COLUMN tested_at_ms INTEGER;

CREATE TABLE webhook_deliveries (
    -- what became of posting an event: a row for each that was tried, which goes when its event is pruned
    seq INTEGER PRIMARY KEY REFERENCES events (seq) ON DELETE CASCADE,
    state TEXT NOT NULL,                -- delivered, failing or given_up
    attempts INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,             -- of the last attempt
    status INTEGER,                     -- the application's answer to it
    error TEXT                          -- why it was none
) STRICT;

CREATE INDEX webhook_deliveries_by_state ON webhook_deliveries (state, seq) WHERE state <> 'delivered';
