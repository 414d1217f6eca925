CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    name TEXT,
    email TEXT,
    metadata TEXT NOT NULL DEFAULT '{}', -- JSON object
    claimed INTEGER NOT NULL,           -- 0: known from AWS only, the id is generated
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE customer_aliases (
    -- ids that were a customer's before two turned out to be one
    alias TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX customer_aliases_by_customer ON customer_aliases (customer_id);

CREATE TABLE identities (
    -- what AWS calls a customer
    kind TEXT NOT NULL CHECK (kind = 'account_id' OR kind = 'customer_identifier' OR kind = 'license_arn'),
    value TEXT NOT NULL,
    customer_id TEXT NOT NULL REFERENCES customers (id),
    PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_by_customer ON identities (customer_id);

CREATE TABLE subscriptions (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers (id),
    product_id TEXT CHECK (product_id IS NOT NULL OR source = 'direct'),
    source TEXT NOT NULL CHECK (source IN ('aws', 'direct')),
    holder TEXT NOT NULL,               -- what it belongs to at AWS: 'license:ARN', 'buyer:CustomerIdentifier', 'account:ID'; direct: ''
    account_id TEXT,
    customer_identifier TEXT,
    license_arn TEXT,
    agreement_id TEXT,
    dimension TEXT,                     -- null: pay-as-you-go
    plan_id TEXT,
    plan_version INTEGER,               -- held to this one when a newer was published for new customers only; null: the published one
    quantity INTEGER,                   -- units bought, in millionths
    status TEXT NOT NULL CHECK (status = 'pending' OR status = 'trialing' OR status = 'active' OR status = 'ending'
        OR status = 'canceled' OR status = 'expired' OR status = 'failed'),
    starts_at_ms INTEGER,
    ends_at_ms INTEGER,
    missing_since_ms INTEGER,           -- AWS did not list it at this look; a second one decides
    ended_at_ms INTEGER,                -- when access ended; null while it lasts
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX subscriptions_by_customer ON subscriptions (customer_id);
CREATE INDEX subscriptions_by_plan ON subscriptions (plan_id);
CREATE INDEX subscriptions_by_holder ON subscriptions (product_id, holder);
CREATE INDEX subscriptions_by_account ON subscriptions (account_id, product_id) WHERE account_id IS NOT NULL;
CREATE INDEX subscriptions_by_license ON subscriptions (license_arn) WHERE license_arn IS NOT NULL;
CREATE INDEX subscriptions_direct_ends ON subscriptions (ends_at_ms) WHERE source = 'direct' AND ended_at_ms IS NULL;
CREATE INDEX subscriptions_direct_starts ON subscriptions (starts_at_ms) WHERE source = 'direct' AND status = 'pending';
CREATE INDEX subscriptions_ending ON subscriptions (product_id, holder) WHERE status = 'ending';
CREATE INDEX subscriptions_ended ON subscriptions (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
-- One live subscription for what was bought, whatever order the news came in.
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (product_id, holder, coalesce(dimension, ''))
    WHERE ended_at_ms IS NULL AND source = 'aws';

CREATE TABLE earlier_tenures (
    -- when a subscription was held before it ended and came back with another start: what a window includes that ran
    -- then is not included once more
    subscription_id TEXT NOT NULL REFERENCES subscriptions (id),
    starts_at_ms INTEGER,
    ended_at_ms INTEGER NOT NULL,
    PRIMARY KEY (subscription_id, ended_at_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE registrations (
    -- buyers whom AWS's redirect brought; their ids are made in the order of time
    id TEXT PRIMARY KEY,
    product_code TEXT NOT NULL,
    account_id TEXT,
    customer_identifier TEXT,
    license_arn TEXT,
    agreement_id TEXT,
    claimed_by_browser TEXT NOT NULL,   -- JSON object: what was posted beside the token, which is not kept
    at_ms INTEGER NOT NULL,
    customer_id TEXT,                   -- whom the seller took them for
    exchanged_at_ms INTEGER
) STRICT;

CREATE TABLE secrets (
    -- keys that marketd makes for itself
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
