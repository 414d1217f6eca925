-- A legacy name is the buyer's in several products, and what a plan includes belongs to one of them. What was counted of
-- several together goes to the one that is held, the newest of them.
CREATE TABLE usage_hours_by_product (
    customer_id TEXT NOT NULL,
    feature_id TEXT NOT NULL,
    product_id TEXT NOT NULL,           -- '' where there is no holder
    holder TEXT NOT NULL,               -- as subscriptions.holder; '' for direct ones and while none is known
    from_ms INTEGER NOT NULL,           -- the hour's start, or that of the window which begins within the hour
    quantity INTEGER NOT NULL,
    billed INTEGER NOT NULL,            -- of the quantity, what is billed; the rest is included in the plan
    PRIMARY KEY (customer_id, feature_id, product_id, holder, from_ms)
) STRICT, WITHOUT ROWID;

INSERT INTO usage_hours_by_product (customer_id, feature_id, product_id, holder, from_ms, quantity, billed)
    SELECT customer_id, feature_id,
        iif(holder = '', '', coalesce((
            SELECT s.product_id FROM subscriptions s
            WHERE s.customer_id = u.customer_id AND s.holder = u.holder AND s.product_id IS NOT NULL
            ORDER BY s.ended_at_ms IS NOT NULL, coalesce(s.starts_at_ms, s.created_at_ms) DESC LIMIT 1), '')),
        holder, from_ms, quantity, billed
    FROM usage_hours u;

DROP TABLE usage_hours;
ALTER TABLE usage_hours_by_product RENAME TO usage_hours;
