CREATE TABLE pruned (
    -- the history that was pruned of each kind: what repeats it is not taken for new, and whoever asks for it is told
    kind TEXT PRIMARY KEY CHECK (kind IN ('notifications', 'events', 'usage_events', 'attempts', 'activity')),
    row_count INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,          -- the newest of it, by its own time
    until_seq INTEGER NOT NULL,         -- the last of it, in the order of its table
    at_ms INTEGER NOT NULL              -- when the last of it was pruned
) STRICT, WITHOUT ROWID;
