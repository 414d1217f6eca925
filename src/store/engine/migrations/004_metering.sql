CREATE TABLE usage_events (
    id TEXT PRIMARY KEY,                -- the application's idempotency key
    fingerprint BLOB NOT NULL,          -- of the content as it was reported: tells a repetition from a conflict
    customer_id TEXT NOT NULL,
    feature_id TEXT,
    record_id INTEGER,                  -- the metering record that bears it; null: counted, not billed
    quantity INTEGER NOT NULL,
    billed INTEGER NOT NULL,            -- of the quantity, what the record bears; the rest is included in the plan
    at_ms INTEGER NOT NULL,             -- when the customer used it
    timed INTEGER NOT NULL,             -- whether the application said when; else it is the time of receipt
    received_at_ms INTEGER NOT NULL,
    moved TEXT,                         -- why it is billed to another hour than its own
    tags TEXT,                          -- JSON object
    included_under INTEGER              -- where a plan includes all of it: of which bearer's
) STRICT;
CREATE INDEX usage_events_by_record ON usage_events (record_id) WHERE record_id IS NOT NULL;
CREATE INDEX usage_events_included ON usage_events (included_under, at_ms) WHERE included_under IS NOT NULL;

CREATE TABLE usage_bearers (
    -- what would bear usage that is included: a short name of it, since such usage has no record that says so
    id INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    dimension TEXT NOT NULL,
    UNIQUE (product_id, holder, dimension)
) STRICT;

CREATE TABLE usage_hours (
    -- what was used, hour by hour: the limits' windows are sums of these
    customer_id TEXT NOT NULL,
    feature_id TEXT NOT NULL,
    holder TEXT NOT NULL,               -- as subscriptions.holder; '' for direct ones and while none is known
    from_ms INTEGER NOT NULL,           -- the hour's start, or that of the window which begins within the hour
    quantity INTEGER NOT NULL,
    billed INTEGER NOT NULL,            -- of the quantity, what is billed; the rest is included in the plan
    PRIMARY KEY (customer_id, feature_id, holder, from_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_totals (
    -- the other side of the balance: every unit as it was accepted at the door
    product_id TEXT PRIMARY KEY,
    reported INTEGER NOT NULL,          -- to be billed
    included INTEGER NOT NULL DEFAULT 0 -- covered by plans, not billed
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_records (
    id INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    holder TEXT NOT NULL,               -- as subscriptions.holder; '' until a subscription turns up
    dimension TEXT NOT NULL,
    hour INTEGER NOT NULL,              -- hours since 1970
    -- 0: the record that AWS deduplicates by. Others are never sent: late usage of an hour that AWS may have been told of
    -- by something else than this ledger, for a person to decide on
    beside INTEGER NOT NULL DEFAULT 0,
    -- quantity + remainder = what its events bill + carried_in; but usage that no plan had rated yet when a person
    -- carried it forward has left the record with its events
    quantity INTEGER NOT NULL,
    carried_in INTEGER NOT NULL DEFAULT 0,  -- of the quantity, what came from another record, or of usage that has one
    remainder INTEGER NOT NULL DEFAULT 0,   -- less than AWS takes, or more: went on to a later hour when this one was frozen
    carried_out INTEGER NOT NULL DEFAULT 0, -- of the quantity, what a person moved on; another record bears it now
    tagged INTEGER NOT NULL DEFAULT 0,      -- whether metering_tags splits it
    state TEXT NOT NULL CHECK (state = 'open' OR state = 'ready' OR state = 'sending' OR state = 'accepted'
        OR state = 'parked' OR state = 'written_off'),
    reason TEXT,
    -- frozen with the quantity, repeated by every attempt
    product_code TEXT,
    account_id TEXT,
    customer_identifier TEXT,
    license_arn TEXT,                   -- null where the holder is the licence
    region TEXT,
    stamp_ms INTEGER,                   -- the moment that AWS is told; null: the beginning of the hour
    allocations TEXT,                   -- JSON
    frozen_at_ms INTEGER,
    -- what came of it
    deadline_ms INTEGER,
    hastened INTEGER NOT NULL DEFAULT 0, -- the deadline is that of a subscription that is ending
    uncertain INTEGER NOT NULL DEFAULT 0, -- parked, though the answer to an attempt was lost: AWS may have billed it
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at_ms INTEGER,
    last_error TEXT,
    metering_record_id TEXT,
    settled_at_ms INTEGER,
    note TEXT,
    UNIQUE (customer_id, product_id, dimension, hour, holder, beside)
) STRICT;
-- One record for what AWS deduplicates by, whoever the customer is by now.
CREATE UNIQUE INDEX metering_records_by_holder ON metering_records (holder, product_id, dimension, hour, beside)
    WHERE holder <> '';
CREATE INDEX metering_records_open ON metering_records (hour, id) WHERE state = 'open';
CREATE INDEX metering_records_waiting ON metering_records (hour, id) WHERE state = 'open' AND holder = '';
CREATE INDEX metering_records_beside ON metering_records (id) WHERE state = 'open' AND beside > 0;
CREATE INDEX metering_records_due ON metering_records (deadline_ms, id) WHERE state IN ('ready', 'sending');
CREATE INDEX metering_records_parked ON metering_records (holder) WHERE state = 'parked';
CREATE INDEX metering_records_parked_by_hour ON metering_records (hour) WHERE state = 'parked';
CREATE INDEX metering_records_conflicts ON metering_records (id) WHERE state = 'parked' AND reason = 'duplicate_conflict';
CREATE INDEX metering_records_written_off ON metering_records (hour) WHERE state = 'written_off';
CREATE INDEX metering_records_hastened ON metering_records (id) WHERE hastened = 1 AND state IN ('ready', 'sending');

CREATE TABLE metering_tags (
    -- how an open record splits; once it is frozen, its allocations say so
    record_id INTEGER NOT NULL REFERENCES metering_records (id),
    tags TEXT NOT NULL,                 -- JSON object, keys in order
    quantity INTEGER NOT NULL,
    PRIMARY KEY (record_id, tags)
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_totals (
    -- the sums of what is settled, so that the balance does not cost more as history grows
    product_id TEXT PRIMARY KEY,
    accepted INTEGER NOT NULL,
    parked INTEGER NOT NULL,
    written_off INTEGER NOT NULL,
    uncertain INTEGER NOT NULL          -- of what is parked or written off
) STRICT, WITHOUT ROWID;

CREATE TRIGGER metering_records_settle AFTER UPDATE OF state, carried_out, uncertain ON metering_records
WHEN new.state = 'accepted' OR new.state = 'parked' OR new.state = 'written_off'
    OR old.state = 'accepted' OR old.state = 'parked' OR old.state = 'written_off'
BEGIN
    -- Not as an upsert, which has SQLite prepare to undo each UPDATE of a state by itself, whatever it says of
    -- conflicts.
    INSERT INTO metering_totals (product_id, accepted, parked, written_off, uncertain)
        SELECT new.product_id, 0, 0, 0, 0
        WHERE NOT EXISTS (SELECT 1 FROM metering_totals WHERE product_id = new.product_id);
    UPDATE metering_totals SET
        accepted = accepted + (new.state = 'accepted') * (new.quantity - new.carried_out)
            - (old.state = 'accepted') * (old.quantity - old.carried_out),
        parked = parked + (new.state = 'parked') * (new.quantity - new.carried_out)
            - (old.state = 'parked') * (old.quantity - old.carried_out),
        written_off = written_off + (new.state = 'written_off') * (new.quantity - new.carried_out)
            - (old.state = 'written_off') * (old.quantity - old.carried_out),
        uncertain = uncertain + (new.state = 'parked' OR new.state = 'written_off') * new.uncertain * (new.quantity - new.carried_out)
            - (old.state = 'parked' OR old.state = 'written_off') * old.uncertain * (old.quantity - old.carried_out)
    WHERE product_id = new.product_id;
END;

-- Law 3: what was frozen never changes. FAIL, not ABORT: the writer undoes the whole write anyway, and ABORT has
-- SQLite prepare to undo each statement by itself.
CREATE TRIGGER metering_records_frozen
BEFORE UPDATE OF product_id, holder, dimension, hour, quantity, product_code, account_id, customer_identifier,
    license_arn, region, stamp_ms, allocations ON metering_records
WHEN old.frozen_at_ms IS NOT NULL
BEGIN
    SELECT RAISE(FAIL, 'a frozen metering record never changes');
END;
CREATE TRIGGER metering_records_kept BEFORE DELETE ON metering_records WHEN old.state <> 'open'
BEGIN
    SELECT RAISE(FAIL, 'a metering record is never deleted');
END;

CREATE TABLE metering_attempts (
    record_id INTEGER NOT NULL REFERENCES metering_records (id),
    attempt INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,              -- 'unknown' until AWS's answer is written beside it
    detail TEXT,
    PRIMARY KEY (record_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_decisions (
    -- what people decided about a record while it was parked, one after another
    record_id INTEGER NOT NULL REFERENCES metering_records (id),
    decision INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,                -- the name of the token
    action TEXT NOT NULL CHECK (action IN ('retry', 'carry_forward', 'write_off')),
    note TEXT NOT NULL,
    PRIMARY KEY (record_id, decision)
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_warnings (
    -- what was said about hours that come close to their deadline, so that it is said once
    product_id TEXT NOT NULL,
    hour INTEGER NOT NULL,
    deadline_ms INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('half', 'four_fifths')),
    PRIMARY KEY (product_id, hour, deadline_ms, stage)
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_progress (
    -- how far hours without usage have been looked at
    id INTEGER PRIMARY KEY CHECK (id = 1),
    zero_through_hour INTEGER NOT NULL
) STRICT;

CREATE TABLE unknown_stretches (
    -- hours of which AWS may know more than this ledger
    id INTEGER PRIMARY KEY,
    cause TEXT NOT NULL CHECK (cause IN ('restored', 'put_back', 'duplicate_record')),
    from_hour INTEGER NOT NULL,
    through_hour INTEGER NOT NULL,
    replay_until_ms INTEGER,            -- until when its hours stay open for usage that is reported again
    last_event INTEGER NOT NULL,        -- the newest of the outbox by then: the cursors right after it are those of a lost ledger
    noticed_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE copies (
    -- in a copy that `backup` made, when; empty in the database that is copied
    id INTEGER PRIMARY KEY CHECK (id = 1),
    made_at_ms INTEGER NOT NULL
) STRICT;
