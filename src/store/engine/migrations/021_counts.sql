-- What the overview and the preview of publishing count, without reading a row. The first is of an expression, so that no
-- statement takes it but the one that says the same: for a list in the order of ids it would be a detour.
CREATE INDEX subscriptions_by_status ON subscriptions (status || '');
CREATE INDEX subscriptions_of_plan ON subscriptions (plan_id, customer_id, plan_version)
    WHERE ended_at_ms IS NULL AND status <> 'failed';
CREATE INDEX subscriptions_as_they_go ON subscriptions (ends_at_ms)
    WHERE source = 'aws' AND dimension IS NULL AND ended_at_ms IS NULL AND status IN ('active', 'trialing');
CREATE INDEX customers_unclaimed ON customers (created_at_ms) WHERE claimed = 0;
-- When access began, of what was ever in force.
CREATE INDEX subscriptions_begun ON subscriptions (coalesce(starts_at_ms, created_at_ms))
    WHERE status <> 'failed' AND status <> 'pending';
