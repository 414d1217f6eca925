CREATE TABLE notifications (
    seq INTEGER PRIMARY KEY,            -- order of receipt
    id TEXT NOT NULL UNIQUE,            -- the SNS message id, the event id, the queue's id for raw bodies, a hash for the unreadable
    format TEXT NOT NULL,               -- 'sns', 'raw', 'eventbridge', 'unreadable'
    kind TEXT NOT NULL,                 -- the action or detail-type
    at_ms INTEGER NOT NULL,             -- its own time
    received_at_ms INTEGER NOT NULL,
    product_code TEXT,
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state = 'pending' OR state = 'applied' OR state = 'quarantined'
        OR state = 'discarded'),
    reason TEXT,
    buyer INTEGER,                      -- the buyer that it made dirty
    copies INTEGER NOT NULL DEFAULT 1   -- how often it was received
) STRICT;
CREATE INDEX notifications_unsettled ON notifications (state, seq) WHERE state <> 'applied';
CREATE INDEX notifications_by_buyer ON notifications (buyer) WHERE state = 'pending';

CREATE TABLE buyers (
    -- one row for each thing that is reconciled: a buyer of a product, by the id that AWS is asked with
    id INTEGER PRIMARY KEY,
    product_code TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'account_id' OR kind = 'customer_identifier' OR kind = 'license_arn'),
    value TEXT NOT NULL,
    marks INTEGER NOT NULL DEFAULT 0,   -- counts what made it dirty, so that news during a look is not lost
    due_at_ms INTEGER,                  -- when to look next; null: nothing is due
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    looked_at_ms INTEGER,               -- the last look at AWS that was taken over
    UNIQUE (product_code, kind, value)
) STRICT;
CREATE INDEX buyers_due ON buyers (due_at_ms) WHERE due_at_ms IS NOT NULL;
CREATE INDEX buyers_waiting ON buyers (product_code) WHERE due_at_ms IS NULL AND looked_at_ms IS NULL;

CREATE TABLE buyer_signals (
    -- the newest of each kind of SNS message about a legacy buyer, by its own time
    product_code TEXT NOT NULL,
    customer_identifier TEXT NOT NULL,
    action TEXT,                        -- the newest subscription action
    action_at_ms INTEGER,
    free_trial INTEGER,
    offer_id TEXT,
    first_success_at_ms INTEGER,
    entitlement_updated_at_ms INTEGER,
    PRIMARY KEY (product_code, customer_identifier)
) STRICT, WITHOUT ROWID;

CREATE TABLE licenses (
    license_arn TEXT PRIMARY KEY,
    product_code TEXT,
    account_id TEXT,
    account_told_at_ms INTEGER,         -- of each field: the time of the word that counts; 0: a word without a time
    agreement_id TEXT,
    agreement_told_at_ms INTEGER,
    change TEXT CHECK (change IN ('updated', 'deprovisioned')),
    change_at_ms INTEGER,
    first_updated_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX licenses_by_account ON licenses (account_id, product_code);
CREATE INDEX licenses_by_agreement ON licenses (agreement_id);

CREATE TABLE agreements (
    agreement_id TEXT PRIMARY KEY,
    account_id TEXT,
    entity_id TEXT,
    offer_id TEXT,
    offer_told_at_ms INTEGER,           -- of each field: the time of the word that counts; 0: a word without a time
    intent TEXT,
    intent_told_at_ms INTEGER,
    previous_agreement_id TEXT,
    starts_at_ms INTEGER,
    starts_told_at_ms INTEGER,
    ends_at_ms INTEGER,                 -- null: open, or not told
    ends_told_at_ms INTEGER,            -- null: not told
    ended_status TEXT,                  -- CANCELLED, EXPIRED, TERMINATED, RENEWED, REPLACED …; null: not ended
    ended_at_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    -- the outbox: what the seller's application is told, in order
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    customer_id TEXT,
    data TEXT NOT NULL                  -- JSON
) STRICT;

CREATE TABLE cursors (
    -- how far a reader of the outbox has come
    reader TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
