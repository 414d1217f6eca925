-- What must never change, and the sums that are kept in step: the triggers of `engine/migrations`.

CREATE OR REPLACE FUNCTION marketd_settle() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before bigint := old.quantity - old.carried_out;
    after bigint := new.quantity - new.carried_out;
BEGIN
    INSERT INTO metering_totals (product_id, accepted, parked, written_off, uncertain)
        VALUES (new.product_id, 0, 0, 0, 0) ON CONFLICT (product_id) DO NOTHING;
    UPDATE metering_totals SET
        accepted = accepted + (new.state = 'accepted')::int * after - (old.state = 'accepted')::int * before,
        parked = parked + (new.state = 'parked')::int * after - (old.state = 'parked')::int * before,
        written_off = written_off + (new.state = 'written_off')::int * after - (old.state = 'written_off')::int * before,
        uncertain = uncertain + (new.state IN ('parked', 'written_off'))::int * new.uncertain * after
            - (old.state IN ('parked', 'written_off'))::int * old.uncertain * before
    WHERE product_id = new.product_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER metering_records_settle AFTER UPDATE OF state, carried_out, uncertain ON metering_records
FOR EACH ROW WHEN (new.state IN ('accepted', 'parked', 'written_off') OR old.state IN ('accepted', 'parked', 'written_off'))
EXECUTE FUNCTION marketd_settle();

-- As a broken rule of the schema: what was asked is refused, and the database is well.
CREATE OR REPLACE FUNCTION marketd_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', tg_argv[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE OR REPLACE TRIGGER metering_records_frozen
BEFORE UPDATE OF product_id, holder, dimension, hour, quantity, product_code, account_id, customer_identifier,
    license_arn, region, stamp_ms, allocations ON metering_records
FOR EACH ROW WHEN (old.frozen_at_ms IS NOT NULL)
EXECUTE FUNCTION marketd_refuse('a frozen metering record never changes');

CREATE OR REPLACE TRIGGER metering_records_kept BEFORE DELETE ON metering_records
FOR EACH ROW WHEN (old.state <> 'open')
EXECUTE FUNCTION marketd_refuse('a metering record is never deleted');

CREATE OR REPLACE TRIGGER notifications_keep_discard
BEFORE UPDATE OF discarded_at_ms, discarded_by, discard_note ON notifications
FOR EACH ROW WHEN (old.discarded_at_ms IS NOT NULL)
EXECUTE FUNCTION marketd_refuse('the note of a discarded notification is never overwritten');
