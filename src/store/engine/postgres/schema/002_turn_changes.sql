-- What each turn has changed, for the other workers: they forget that alone of what they remember, and wake whom it wakes.
-- Of a turn that is not here anything may have changed, so that old ones can go, and a server that crashed may have none.

CREATE UNLOGGED TABLE turn_changes (
    turn bigint PRIMARY KEY,
    changed text COLLATE "C",          -- JSON: the customers that changed; null: too many to name
    used text COLLATE "C",             -- JSON: the customers whose usage was counted; null: too many to name
    catalogue bigint NOT NULL,         -- 1: plans or features
    licenses bigint NOT NULL,          -- 1: licences or agreements
    woken bigint NOT NULL              -- the bits of the waiters
);
