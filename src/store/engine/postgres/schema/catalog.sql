-- The tables of `engine/migrations` as PostgreSQL has them. Text is ordered by bytes, as SQLite orders it; conditions that
-- are stored are 0 or 1, as there.

CREATE TABLE integration (
    -- one connection to one seller account
    id bigint PRIMARY KEY CHECK (id = 1),
    role_arn text COLLATE "C",                      -- null: the environment's own credentials
    external_id text COLLATE "C" NOT NULL,
    seller_account_id text COLLATE "C",
    state text COLLATE "C" NOT NULL CHECK (state IN ('none', 'connected', 'removed')),
    checks text COLLATE "C" NOT NULL DEFAULT '[]',  -- JSON
    updated_at_ms bigint NOT NULL
);

CREATE TABLE products (
    id text COLLATE "C" PRIMARY KEY,
    code text COLLATE "C" NOT NULL UNIQUE,          -- names it in notifications, entitlements, legacy metering
    entity_id text COLLATE "C" NOT NULL UNIQUE,     -- names it in the catalog and in agreements
    title text COLLATE "C" NOT NULL,
    visibility text COLLATE "C" NOT NULL,
    usage_plan_id text COLLATE "C",                 -- the pay-as-you-go plan
    licensed_from_hour bigint,         -- hours since 1970 from which legacy buyers are metered by licence; null: they are not
    document text COLLATE "C" NOT NULL,             -- the catalog's document as it came, unknown fields included
    imported_at_ms bigint NOT NULL,
    synced_at_ms bigint NOT NULL,
    seller_account_id text COLLATE "C"
);

CREATE TABLE dimensions (
    product_id text COLLATE "C" NOT NULL REFERENCES products (id),
    key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    unit text COLLATE "C",
    entitled bigint NOT NULL,          -- sold in contracts
    metered bigint NOT NULL,           -- billed by usage
    types text COLLATE "C" NOT NULL,                -- JSON, AWS's words
    plan_id text COLLATE "C",                       -- the plan that an entitlement to it means
    removed_at_ms bigint,              -- gone from the listing
    PRIMARY KEY (product_id, key)
);

CREATE TABLE plans (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    product_id text COLLATE "C" REFERENCES products (id),
    source text COLLATE "C" NOT NULL CHECK (source IN ('aws', 'direct')),
    status text COLLATE "C" NOT NULL CHECK (status IN ('draft', 'published', 'archived')),
    version bigint NOT NULL DEFAULT 1, -- the newest; a draft unless it is the published one
    published_version bigint,          -- what customers have who are not held to an older one; null: never published
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL
);

CREATE TABLE features (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL CHECK (type IN ('boolean', 'numeric', 'metered')),
    unit text COLLATE "C",
    when_stale text COLLATE "C" NOT NULL DEFAULT 'allow' CHECK (when_stale IN ('allow', 'deny')), -- while AWS cannot be asked for long
    updated_at_ms bigint NOT NULL
);

CREATE TABLE feature_dimensions (
    -- the metered dimension that a feature's usage is billed to, product by product
    feature_id text COLLATE "C" NOT NULL REFERENCES features (id),
    product_id text COLLATE "C" NOT NULL REFERENCES products (id),
    dimension text COLLATE "C" NOT NULL,
    PRIMARY KEY (feature_id, product_id)
);

CREATE TABLE plan_entitlements (
    plan_id text COLLATE "C" NOT NULL REFERENCES plans (id),
    version bigint NOT NULL,
    feature_id text COLLATE "C" NOT NULL REFERENCES features (id),
    quota bigint,                      -- the limit in millionths; null with unlimited = 0: access without a limit of its own
    unlimited bigint NOT NULL DEFAULT 0,
    soft bigint NOT NULL DEFAULT 0,
    per_unit bigint NOT NULL DEFAULT 0,
    reset text COLLATE "C" CHECK (reset IN ('hour', 'day', 'week', 'month', 'year')),
    anchor text COLLATE "C" NOT NULL DEFAULT 'calendar' CHECK (anchor IN ('calendar', 'subscription')),
    bill text COLLATE "C" NOT NULL DEFAULT 'all' CHECK (bill IN ('all', 'overage', 'none')),
    PRIMARY KEY (plan_id, version, feature_id)
);

CREATE TABLE brakes (
    -- products of which AWS's answers would end more at once than is to be believed: a person is waited for
    product_id text COLLATE "C" NOT NULL REFERENCES products (id),
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('subscriptions', 'dimensions')),
    held_since_ms bigint,              -- null: nothing is held
    confirmed_at_ms bigint,            -- what was missing by then was let go
    unlisted bigint NOT NULL,          -- what AWS lists no more
    live bigint NOT NULL,              -- of so many
    allowed bigint NOT NULL,           -- so many would have ended
    PRIMARY KEY (product_id, kind)
);

CREATE TABLE plan_publications (
    -- when a version of a plan became what customers have, and who had it so; older ones have no row
    plan_id text COLLATE "C" NOT NULL REFERENCES plans (id),
    version bigint NOT NULL,
    at_ms bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,                -- the name of the token
    PRIMARY KEY (plan_id, version)
);
