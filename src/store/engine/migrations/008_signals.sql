CREATE TABLE subscription_signals (
    -- every SNS message about a legacy buyer's subscription: what they say together does not depend on their order
    product_code TEXT NOT NULL,
    customer_identifier TEXT NOT NULL,
    at_ms INTEGER NOT NULL,             -- its own time
    action TEXT NOT NULL,
    offer_id TEXT NOT NULL DEFAULT '',  -- the private offer; '': the public one
    free_trial INTEGER,                 -- null: it does not say
    PRIMARY KEY (product_code, customer_identifier, at_ms, action, offer_id)
) STRICT, WITHOUT ROWID;
INSERT INTO subscription_signals (product_code, customer_identifier, at_ms, action, free_trial)
    SELECT product_code, customer_identifier, action_at_ms, action, free_trial
    FROM buyer_signals WHERE action IS NOT NULL;
INSERT OR IGNORE INTO subscription_signals (product_code, customer_identifier, at_ms, action, free_trial)
    SELECT product_code, customer_identifier, first_success_at_ms, 'subscribe-success', NULL
    FROM buyer_signals WHERE first_success_at_ms IS NOT NULL;

ALTER TABLE buyer_signals DROP COLUMN action;
ALTER TABLE buyer_signals DROP COLUMN action_at_ms;
ALTER TABLE buyer_signals DROP COLUMN free_trial;
ALTER TABLE buyer_signals DROP COLUMN offer_id;
ALTER TABLE buyer_signals DROP COLUMN first_success_at_ms;
