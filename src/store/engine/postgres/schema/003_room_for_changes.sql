-- Reports of usage change the same rows over and over until their hour is over, in columns that no index is about. Where a
-- page has room for the changed row, it stays on that page, and none of the table's indexes has to be told: of the rows of
-- metering_records that costs half of what it did.

ALTER TABLE metering_records SET (fillfactor = 50);
ALTER TABLE metering_tags SET (fillfactor = 50);
ALTER TABLE usage_hours SET (fillfactor = 50);
ALTER TABLE usage_sums SET (fillfactor = 50);
