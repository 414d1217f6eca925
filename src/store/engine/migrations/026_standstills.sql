CREATE TABLE metering_standstills (
    -- when no call with a product's usage came to anything: what the records say of it that waited meanwhile
    id INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    cause TEXT NOT NULL CHECK (cause IN ('refused', 'unsent', 'unanswered')),
    since_ms INTEGER NOT NULL,          -- the first such call
    until_ms INTEGER NOT NULL,          -- the last one
    error TEXT NOT NULL,                -- of the last one
    ended INTEGER NOT NULL DEFAULT 0    -- a call has gone through since
) STRICT;
CREATE INDEX metering_standstills_by_product ON metering_standstills (product_id, until_ms);
CREATE INDEX metering_standstills_running ON metering_standstills (product_id) WHERE ended = 0;

-- What a person gave up, apart from what went on to a later hour.
CREATE INDEX metering_records_given_up ON metering_records (hour)
    WHERE state = 'written_off' AND reason <> 'carried_forward';
