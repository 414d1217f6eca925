CREATE TABLE usage_sums (
    -- what all customers used, hour by hour: a few rows an hour, however many customers there are
    hour INTEGER NOT NULL,              -- hours since 1970
    product_id TEXT NOT NULL,           -- '' where nothing at AWS bears it
    feature_id TEXT NOT NULL,           -- '' where it was reported by dimension alone
    quantity INTEGER NOT NULL,
    PRIMARY KEY (hour, product_id, feature_id)
) STRICT, WITHOUT ROWID;

INSERT INTO usage_sums (hour, product_id, feature_id, quantity)
    SELECT min(u.at_ms, u.received_at_ms) / 3600000, coalesce(r.product_id, b.product_id, ''), coalesce(u.feature_id, ''), sum(u.quantity)
    FROM usage_events u
        LEFT JOIN metering_records r ON r.id = u.record_id
        LEFT JOIN usage_bearers b ON b.id = u.included_under
    GROUP BY 1, 2, 3;
