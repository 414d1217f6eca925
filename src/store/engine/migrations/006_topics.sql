CREATE TABLE topics (
    -- what SNS itself said of the subscriptions to topics; one that was ended and not made again is deaf
    topic_arn TEXT PRIMARY KEY,
    subscribed_at_ms INTEGER,           -- the newest confirmation, by its own time
    unsubscribed_at_ms INTEGER          -- the newest end, by its own time
) STRICT, WITHOUT ROWID;

-- What was quarantined for its signature says so by its format, so that a replay checks it first.
UPDATE notifications SET format = 'untrusted', kind = 'untrusted'
    WHERE state = 'quarantined' AND reason LIKE 'its signature does not hold: %';
