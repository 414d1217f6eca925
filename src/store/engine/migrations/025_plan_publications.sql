CREATE TABLE plan_publications (
    -- when a version of a plan became what customers have, and who had it so; older ones have no row
    plan_id TEXT NOT NULL REFERENCES plans (id),
    version INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,                -- the name of the token
    PRIMARY KEY (plan_id, version)
) STRICT, WITHOUT ROWID;
