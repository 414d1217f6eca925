-- The notes of what a transaction changes, which its session reads before it commits. They stand in a table of the
-- session's own; a session without one, such as a person's, notes nothing.

CREATE OR REPLACE FUNCTION marketd_note(
    kind text, a text DEFAULT NULL, b text DEFAULT NULL, c text DEFAULT NULL, d text DEFAULT NULL,
    e bigint DEFAULT NULL, f bigint DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('pg_temp.marketd_notes') IS NOT NULL THEN
        INSERT INTO pg_temp.marketd_notes (kind, a, b, c, d, e, f) VALUES (kind, a, b, c, d, e, f);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION marketd_note_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op <> 'INSERT' THEN
        PERFORM marketd_note('customer', old.customer_id);
    END IF;
    IF tg_op = 'INSERT' OR (tg_op = 'UPDATE' AND new.customer_id <> old.customer_id) THEN
        PERFORM marketd_note('customer', new.customer_id);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_subscription AFTER INSERT OR UPDATE OR DELETE ON subscriptions
FOR EACH ROW EXECUTE FUNCTION marketd_note_subscription();

CREATE OR REPLACE FUNCTION marketd_note_customer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('customer', CASE tg_op WHEN 'DELETE' THEN old.id ELSE new.id END);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_customer AFTER INSERT OR UPDATE OR DELETE ON customers
FOR EACH ROW EXECUTE FUNCTION marketd_note_customer();

CREATE OR REPLACE FUNCTION marketd_note_alias() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('customer', CASE tg_op WHEN 'DELETE' THEN old.alias ELSE new.alias END);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_alias AFTER INSERT OR UPDATE OR DELETE ON customer_aliases
FOR EACH ROW EXECUTE FUNCTION marketd_note_alias();

-- Whose they are is not looked for: news of licences are few beside usage.
CREATE OR REPLACE FUNCTION marketd_note_licenses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('licenses');
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_license AFTER INSERT OR DELETE ON licenses
FOR EACH STATEMENT EXECUTE FUNCTION marketd_note_licenses();
CREATE OR REPLACE TRIGGER note_license_change AFTER UPDATE OF agreement_id, first_updated_at_ms ON licenses
FOR EACH ROW WHEN (old.agreement_id IS DISTINCT FROM new.agreement_id
    OR old.first_updated_at_ms IS DISTINCT FROM new.first_updated_at_ms)
EXECUTE FUNCTION marketd_note_licenses();
CREATE OR REPLACE TRIGGER note_agreement AFTER INSERT OR DELETE ON agreements
FOR EACH STATEMENT EXECUTE FUNCTION marketd_note_licenses();
CREATE OR REPLACE TRIGGER note_agreement_change AFTER UPDATE OF starts_at_ms ON agreements
FOR EACH ROW WHEN (old.starts_at_ms IS DISTINCT FROM new.starts_at_ms)
EXECUTE FUNCTION marketd_note_licenses();

CREATE OR REPLACE FUNCTION marketd_note_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('catalogue');
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_plan AFTER INSERT OR UPDATE ON plans
FOR EACH ROW EXECUTE FUNCTION marketd_note_catalogue();
CREATE OR REPLACE TRIGGER note_grant AFTER INSERT OR DELETE ON plan_entitlements
FOR EACH ROW EXECUTE FUNCTION marketd_note_catalogue();
CREATE OR REPLACE TRIGGER note_feature AFTER INSERT OR UPDATE ON features
FOR EACH ROW EXECUTE FUNCTION marketd_note_catalogue();

CREATE OR REPLACE TRIGGER note_billed AFTER INSERT OR DELETE ON feature_dimensions
FOR EACH ROW EXECUTE FUNCTION marketd_note_catalogue();
CREATE OR REPLACE TRIGGER note_licensed AFTER UPDATE OF licensed_from_hour ON products
FOR EACH ROW WHEN (old.licensed_from_hour IS DISTINCT FROM new.licensed_from_hour)
EXECUTE FUNCTION marketd_note_catalogue();

CREATE OR REPLACE FUNCTION marketd_note_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('used', new.customer_id, new.feature_id, new.product_id, new.holder, new.from_ms,
        new.quantity - CASE tg_op WHEN 'UPDATE' THEN old.quantity ELSE 0 END);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_usage AFTER INSERT OR UPDATE ON usage_hours
FOR EACH ROW EXECUTE FUNCTION marketd_note_usage();

CREATE OR REPLACE FUNCTION marketd_note_loss() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('loss', new.type, new.data);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER say_loss AFTER INSERT ON events
FOR EACH ROW WHEN (new.type IN ('metering.parked', 'notification.quarantined'))
EXECUTE FUNCTION marketd_note_loss();

CREATE OR REPLACE FUNCTION marketd_note_activity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('activity', new.actor, new.door, new.operation, new.path);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER say_activity AFTER INSERT ON activity
FOR EACH ROW EXECUTE FUNCTION marketd_note_activity();

CREATE OR REPLACE FUNCTION marketd_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM marketd_note('woken', NULL, NULL, NULL, NULL, tg_argv[0]::bigint);
    RETURN NULL;
END $$;
