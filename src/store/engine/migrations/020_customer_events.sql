-- The feed of one customer's events.
CREATE INDEX events_of_customer ON events (customer_id, seq) WHERE customer_id IS NOT NULL;
