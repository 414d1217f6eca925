CREATE TABLE usage_events (
    id TEXT PRIMARY KEY,                -- the application's idempotency key
    fingerprint INTEGER NOT NULL,       -- of the content as it was reported: tells a repetition from a conflict
    customer_id TEXT NOT NULL,
    feature_id TEXT,
    record_id INTEGER,                  -- the metering record that bears it; null: counted, not billed
    quantity INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,             -- when the customer used it
    received_at_ms INTEGER NOT NULL,
    moved TEXT,                         -- why it is billed to another hour than its own
    tags TEXT                           -- JSON object
) STRICT;
CREATE INDEX usage_events_by_record ON usage_events (record_id) WHERE record_id IS NOT NULL;

CREATE TABLE usage_hours (
    -- what was used, hour by hour: the limits' windows are sums of these
    customer_id TEXT NOT NULL,
    feature_id TEXT NOT NULL,
    hour INTEGER NOT NULL,              -- hours since 1970
    quantity INTEGER NOT NULL,
    PRIMARY KEY (customer_id, feature_id, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_totals (
    -- the other side of the balance: every billable unit as it was accepted at the door
    product_id TEXT PRIMARY KEY,
    reported INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_records (
    id INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    holder TEXT NOT NULL,               -- as subscriptions.holder; '' until a subscription turns up
    dimension TEXT NOT NULL,
    hour INTEGER NOT NULL,              -- hours since 1970
    quantity INTEGER NOT NULL,          -- never changes once the state has left 'open'
    carried_in INTEGER NOT NULL DEFAULT 0,  -- of the quantity, what came from an earlier hour
    carried_out INTEGER NOT NULL DEFAULT 0, -- what a person moved on to a later hour; another record bears it now
    state TEXT NOT NULL CHECK (state IN ('open', 'ready', 'sending', 'accepted', 'parked', 'written_off')),
    reason TEXT,
    -- frozen with the quantity, repeated by every attempt
    product_code TEXT,
    account_id TEXT,
    customer_identifier TEXT,
    license_arn TEXT,
    region TEXT,
    allocations TEXT,                   -- JSON
    frozen_at_ms INTEGER,
    deadline_ms INTEGER,
    -- what came of it
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at_ms INTEGER,
    last_error TEXT,
    metering_record_id TEXT,
    settled_at_ms INTEGER,
    note TEXT,
    UNIQUE (product_id, customer_id, holder, dimension, hour)
) STRICT;
CREATE INDEX metering_records_unsettled ON metering_records (state, hour)
    WHERE state IN ('open', 'ready', 'sending');
CREATE INDEX metering_records_by_state ON metering_records (state, id);
CREATE INDEX metering_records_by_customer ON metering_records (customer_id);
CREATE INDEX metering_records_by_holder ON metering_records (holder, product_id, dimension, hour);

CREATE TABLE metering_attempts (
    record_id INTEGER NOT NULL REFERENCES metering_records (id),
    attempt INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,              -- 'unknown' until AWS's answer is written beside it
    detail TEXT,
    PRIMARY KEY (record_id, attempt)
) STRICT, WITHOUT ROWID;
