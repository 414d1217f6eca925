-- Whether the exchange named the customer: only the same exchange is answered again.
ALTER TABLE registrations ADD COLUMN named INTEGER NOT NULL DEFAULT 1;
-- A buyer who comes again has one row until it is exchanged; old rows are let go; merges move the customer.
CREATE INDEX registrations_unexchanged ON registrations (product_code, account_id, customer_identifier, license_arn)
    WHERE exchanged_at_ms IS NULL;
CREATE INDEX registrations_by_time ON registrations (at_ms, id);
CREATE INDEX registrations_by_customer ON registrations (customer_id) WHERE customer_id IS NOT NULL;

CREATE TABLE signed_up (
    -- in which forms AWS has named a product's buyers who signed up; kept when their registrations are let go
    product_code TEXT NOT NULL,
    form TEXT NOT NULL CHECK (form IN ('name', 'license')),
    PRIMARY KEY (product_code, form)
) STRICT, WITHOUT ROWID;
CREATE INDEX licenses_told ON licenses (product_code) WHERE change IS NOT NULL;

CREATE TABLE contradictions (
    -- what AWS named as one buyer and what is known shows to be two: for a person to look into
    ids TEXT PRIMARY KEY,               -- the ids that AWS named together
    customer_id TEXT NOT NULL,          -- whom they contradict
    detail TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
