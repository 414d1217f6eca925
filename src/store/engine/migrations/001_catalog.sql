-- Times are milliseconds since 1970 in UTC, quantities millionths of a unit.
--
-- In tables that are written often, CHECKs and triggers compare word by word: for an IN of three words or more SQLite
-- builds a table in memory, each time.

CREATE TABLE integration (
    -- one connection to one seller account
    id INTEGER PRIMARY KEY CHECK (id = 1),
    role_arn TEXT,                      -- null: the environment's own credentials
    external_id TEXT NOT NULL,
    seller_account_id TEXT,
    state TEXT NOT NULL CHECK (state IN ('none', 'connected', 'removed')),
    checks TEXT NOT NULL DEFAULT '[]',  -- JSON
    updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE products (
    id TEXT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,          -- names it in notifications, entitlements, legacy metering
    entity_id TEXT NOT NULL UNIQUE,     -- names it in the catalog and in agreements
    title TEXT NOT NULL,
    visibility TEXT NOT NULL,
    usage_plan_id TEXT,                 -- the pay-as-you-go plan
    licensed_from_hour INTEGER,         -- hours since 1970 from which legacy buyers are metered by licence; null: they are not
    document TEXT NOT NULL,             -- the catalog's document as it came, unknown fields included
    imported_at_ms INTEGER NOT NULL,
    synced_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE dimensions (
    product_id TEXT NOT NULL REFERENCES products (id),
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    unit TEXT,
    entitled INTEGER NOT NULL,          -- sold in contracts
    metered INTEGER NOT NULL,           -- billed by usage
    types TEXT NOT NULL,                -- JSON, AWS's words
    plan_id TEXT,                       -- the plan that an entitlement to it means
    removed_at_ms INTEGER,              -- gone from the listing
    PRIMARY KEY (product_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    product_id TEXT REFERENCES products (id),
    source TEXT NOT NULL CHECK (source IN ('aws', 'direct')),
    status TEXT NOT NULL CHECK (status IN ('draft', 'published', 'archived')),
    version INTEGER NOT NULL DEFAULT 1, -- the newest; a draft unless it is the published one
    published_version INTEGER,          -- what customers have who are not held to an older one; null: never published
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE features (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('boolean', 'numeric', 'metered')),
    unit TEXT,
    when_stale TEXT NOT NULL DEFAULT 'allow' CHECK (when_stale IN ('allow', 'deny')), -- while AWS cannot be asked for long
    updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE feature_dimensions (
    -- the metered dimension that a feature's usage is billed to, product by product
    feature_id TEXT NOT NULL REFERENCES features (id),
    product_id TEXT NOT NULL REFERENCES products (id),
    dimension TEXT NOT NULL,
    PRIMARY KEY (feature_id, product_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE plan_entitlements (
    plan_id TEXT NOT NULL REFERENCES plans (id),
    version INTEGER NOT NULL,
    feature_id TEXT NOT NULL REFERENCES features (id),
    quota INTEGER,                      -- the limit in millionths; null with unlimited = 0: access without a limit of its own
    unlimited INTEGER NOT NULL DEFAULT 0,
    soft INTEGER NOT NULL DEFAULT 0,
    per_unit INTEGER NOT NULL DEFAULT 0,
    reset TEXT CHECK (reset IN ('hour', 'day', 'week', 'month', 'year')),
    anchor TEXT NOT NULL DEFAULT 'calendar' CHECK (anchor IN ('calendar', 'subscription')),
    bill TEXT NOT NULL DEFAULT 'all' CHECK (bill IN ('all', 'overage', 'none')),
    PRIMARY KEY (plan_id, version, feature_id)
) STRICT, WITHOUT ROWID;
