-- A record is found by the id that AWS gave it.
CREATE INDEX metering_records_by_aws_id ON metering_records (metering_record_id) WHERE metering_record_id IS NOT NULL;
