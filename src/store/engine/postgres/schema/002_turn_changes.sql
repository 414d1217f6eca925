-- The word that each turn leaves with its commit. By it whoever lost the answer finds out what came of it, and the other
-- workers hear what it changed: they forget that alone of what they remember, and wake whom it wakes. Of a turn that is not
-- here anything may have changed, so that old ones can go.

CREATE TABLE turn_changes (
    turn bigint PRIMARY KEY,
    token bigint NOT NULL,             -- tells it from one that came to nothing, whose number it has
    changed text COLLATE "C",          -- JSON: the customers that changed; null: too many to name
    used text COLLATE "C",             -- JSON: the customers whose usage was counted; null: too many to name
    catalogue bigint NOT NULL,         -- 1: plans or features
    licenses bigint NOT NULL,          -- 1: licences or agreements
    woken bigint NOT NULL              -- the bits of the waiters
);
