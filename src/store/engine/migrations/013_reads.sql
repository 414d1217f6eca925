-- What reports and lists read, whatever else there ever was. Records come in the order of these keys, so that keeping them
-- costs little. They are of expressions, so that no statement takes them but those which say the same: without statistics
-- SQLite would prefer them to the indexes of the few records that are in some state.
CREATE INDEX metering_records_by_hour ON metering_records (hour + 0);
CREATE INDEX metering_records_by_product ON metering_records (product_id || '', hour);
