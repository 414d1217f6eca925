-- The tables of `engine/migrations` as PostgreSQL has them. Text is ordered by bytes, as SQLite orders it; conditions that
-- are stored are 0 or 1, as there.

CREATE TABLE customers (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C",
    email text COLLATE "C",
    metadata text COLLATE "C" NOT NULL DEFAULT '{}', -- JSON object
    claimed bigint NOT NULL,           -- 0: known from AWS only, the id is generated
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    erased_at_ms bigint
);

CREATE TABLE customer_aliases (
    -- ids that were a customer's before two turned out to be one
    alias text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id)
);

CREATE TABLE identities (
    -- what AWS calls a customer
    kind text COLLATE "C" NOT NULL CHECK (kind = 'account_id' OR kind = 'customer_identifier' OR kind = 'license_arn'),
    value text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    PRIMARY KEY (kind, value)
);

CREATE TABLE subscriptions (
    rowid bigint GENERATED ALWAYS AS IDENTITY UNIQUE, -- the order in which rows were written
    id text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    product_id text COLLATE "C" CHECK (product_id IS NOT NULL OR source = 'direct'),
    source text COLLATE "C" NOT NULL CHECK (source IN ('aws', 'direct')),
    holder text COLLATE "C" NOT NULL,               -- what it belongs to at AWS: 'license:ARN', 'buyer:CustomerIdentifier', 'account:ID'; direct: ''
    account_id text COLLATE "C",
    customer_identifier text COLLATE "C",
    license_arn text COLLATE "C",
    agreement_id text COLLATE "C",
    dimension text COLLATE "C",                     -- null: pay-as-you-go
    plan_id text COLLATE "C",
    plan_version bigint,               -- held to this one when a newer was published for new customers only; null: the published one
    quantity bigint,                   -- units bought, in millionths
    status text COLLATE "C" NOT NULL CHECK (status = 'pending' OR status = 'trialing' OR status = 'active' OR status = 'ending'
        OR status = 'canceled' OR status = 'expired' OR status = 'failed'),
    starts_at_ms bigint,
    ends_at_ms bigint,
    missing_since_ms bigint,           -- AWS did not list it at this look; a second one decides
    ended_at_ms bigint,                -- when access ended; null while it lasts
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    renewed_by text COLLATE "C"
);

CREATE TABLE earlier_tenures (
    -- when a subscription was held before it ended and came back with another start: what a window includes that ran
    -- then is not included once more
    subscription_id text COLLATE "C" NOT NULL REFERENCES subscriptions (id),
    starts_at_ms bigint,
    ended_at_ms bigint NOT NULL,
    PRIMARY KEY (subscription_id, ended_at_ms)
);

CREATE TABLE registrations (
    -- buyers whom AWS's redirect brought; their ids are made in the order of time
    id text COLLATE "C" PRIMARY KEY,
    product_code text COLLATE "C" NOT NULL,
    account_id text COLLATE "C",
    customer_identifier text COLLATE "C",
    license_arn text COLLATE "C",
    agreement_id text COLLATE "C",
    claimed_by_browser text COLLATE "C" NOT NULL,   -- JSON object: what was posted beside the token, which is not kept
    at_ms bigint NOT NULL,
    customer_id text COLLATE "C",                   -- whom the seller took them for
    exchanged_at_ms bigint,
    named bigint NOT NULL DEFAULT 1
);

CREATE TABLE secrets (
    -- keys that marketd makes for itself
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE contradictions (
    -- what AWS named as one buyer and what is known shows to be two: for a person to look into
    ids text COLLATE "C" PRIMARY KEY,               -- the ids that AWS named together
    customer_id text COLLATE "C" NOT NULL,          -- whom they contradict
    detail text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL
);

CREATE TABLE mappings (
    -- AWS's file of which legacy buyer is which account, as far as the buyers are not known yet
    customer_identifier text COLLATE "C" PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL
);

CREATE TABLE unlisted_endings (
    -- what ended by a second look of late, of which nobody had told an end and no person had let it go
    rowid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id text COLLATE "C" NOT NULL REFERENCES products (id),
    at_ms bigint NOT NULL
);

CREATE TABLE erasures (
    -- erasures that are under way: history goes in pieces, and a stop in between must not lose what is left to do
    customer_id text COLLATE "C" PRIMARY KEY,       -- the opaque id
    words text COLLATE "C" NOT NULL                 -- JSON list: what names the customer in the bodies of messages
);

CREATE INDEX customer_aliases_by_customer ON customer_aliases (customer_id);
CREATE INDEX identities_by_customer ON identities (customer_id);
CREATE INDEX subscriptions_by_customer ON subscriptions (customer_id);
CREATE INDEX subscriptions_by_plan ON subscriptions (plan_id);
CREATE INDEX subscriptions_by_holder ON subscriptions (product_id, holder);
CREATE INDEX subscriptions_by_account ON subscriptions (account_id, product_id) WHERE account_id IS NOT NULL;
CREATE INDEX subscriptions_by_license ON subscriptions (license_arn) WHERE license_arn IS NOT NULL;
CREATE INDEX subscriptions_direct_ends ON subscriptions (ends_at_ms) WHERE source = 'direct' AND ended_at_ms IS NULL;
CREATE INDEX subscriptions_direct_starts ON subscriptions (starts_at_ms) WHERE source = 'direct' AND status = 'pending';
CREATE INDEX subscriptions_ending ON subscriptions (product_id, holder) WHERE status = 'ending';
CREATE INDEX subscriptions_ended ON subscriptions (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (product_id, holder, coalesce(dimension, ''))
    WHERE ended_at_ms IS NULL AND source = 'aws';
CREATE INDEX registrations_unexchanged ON registrations (product_code, account_id, customer_identifier, license_arn)
    WHERE exchanged_at_ms IS NULL;
CREATE INDEX registrations_by_time ON registrations (at_ms, id);
CREATE INDEX registrations_by_customer ON registrations (customer_id) WHERE customer_id IS NOT NULL;
CREATE INDEX mappings_by_account ON mappings (account_id);
CREATE INDEX unlisted_endings_by_product ON unlisted_endings (product_id, at_ms);
CREATE INDEX subscriptions_unlisted ON subscriptions (product_id, missing_since_ms)
    WHERE missing_since_ms IS NOT NULL AND ended_at_ms IS NULL;
CREATE INDEX subscriptions_by_status ON subscriptions ((status || ''));
CREATE INDEX subscriptions_of_plan ON subscriptions (plan_id, customer_id, plan_version)
    WHERE ended_at_ms IS NULL AND status <> 'failed';
CREATE INDEX subscriptions_as_they_go ON subscriptions (ends_at_ms)
    WHERE source = 'aws' AND dimension IS NULL AND ended_at_ms IS NULL AND status IN ('active', 'trialing');
CREATE INDEX customers_unclaimed ON customers (created_at_ms) WHERE claimed = 0;
CREATE INDEX subscriptions_begun ON subscriptions (coalesce(starts_at_ms, created_at_ms))
    WHERE status <> 'failed' AND status <> 'pending';
