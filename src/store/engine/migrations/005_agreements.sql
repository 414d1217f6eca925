-- The Agreement API tells what no event told: which chain an agreement belongs to, and how a licence stands.
ALTER TABLE agreements ADD COLUMN initial_agreement_id TEXT;
CREATE INDEX agreements_by_previous ON agreements (previous_agreement_id) WHERE previous_agreement_id IS NOT NULL;

ALTER TABLE licenses ADD COLUMN observed TEXT
    CHECK (observed IN ('PROVISIONED', 'SCHEDULED', 'PENDING', 'FAILED', 'DEPROVISIONED'));
ALTER TABLE licenses ADD COLUMN observed_at_ms INTEGER;

-- Under what a subscription went on when it ended, as its holder is written.
ALTER TABLE subscriptions ADD COLUMN renewed_by TEXT;

-- Whose product it is: credentials of another account can do nothing for it.
ALTER TABLE products ADD COLUMN seller_account_id TEXT;
