//! Hours without usage: a record of zero for every active metered licence, where the seller wants them.

use jiff::Timestamp;

use super::policy::ClosingPolicy;
use super::slots::other_identity;
use super::unknown_hours::unknown_hours_in;
use crate::domain::ClockHour;
use crate::domain::ledger::deadline;
use crate::store::base::columns::millis;
use crate::store::engine::sql::{Connection, OptionalExtension, named_params};
use crate::store::{During, StoreError};

/// Opens a record of zero for each hour that has closed since the last look and that AWS still takes. Only hours
/// that freeze now: a zero sent too early would lock its hour at zero.
pub(crate) fn open_zero_records(
    connection: &Connection,
    policy: &ClosingPolicy,
    now: Timestamp,
) -> Result<(), StoreError> {
    let last = policy.timing().last_frozen(now);
    let through: Option<i64> = connection
        .prepare_cached("SELECT zero_through_hour FROM metering_progress WHERE id = 1")
        .and_then(|mut select| select.query_row([], |row| row.get(0)).optional())
        .during("read how far hours without usage were looked at")?;
    // The first look begins with the hour that has just closed.
    let mut hour = through.map_or(last, |through| ClockHour::from_number(through).next());
    // Hours of a long stop that AWS does not take any more are left out.
    let window_hours = policy.window.as_hours();
    hour = hour.max(ClockHour::from_number(last.number().saturating_sub(window_hours)));
    // A zero would lock an hour whose usage may be reported again, or conflict with what AWS has billed.
    let unknown = unknown_hours_in(connection)?;
    if hour > last {
        return Ok(());
    }
    while hour <= last {
        if now < deadline(hour, policy.window) && !unknown.holds(hour) {
            open_zeros_of(connection, hour)?;
        }
        hour = hour.next();
    }
    connection
        .prepare_cached(
            "INSERT INTO metering_progress (id, zero_through_hour) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET zero_through_hour =
                 greatest(metering_progress.zero_through_hour, excluded.zero_through_hour)",
        )
        .and_then(|mut upsert| upsert.post([last.number()]))
        .during("note how far hours without usage were looked at")?;
    Ok(())
}

/// Opens zeros for subscriptions that were in force for some part of the hour, and still are: what has ended has its
/// last hours closed by their own usage.
fn open_zeros_of(connection: &Connection, hour: ClockHour) -> Result<(), StoreError> {
    connection
        .prepare_cached(concat!(
            "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
             SELECT s.product_id, min(s.customer_id), s.holder, d.key, :hour, 0, 'open'
             FROM subscriptions s
             JOIN dimensions d ON d.product_id = s.product_id AND d.metered = 1 AND d.removed_at_ms IS NULL
             WHERE s.source = 'aws' AND s.holder <> '' AND s.status IN ('active', 'trialing', 'ending')
               AND s.starts_at_ms < :end
               AND (s.status <> 'ending' OR s.dimension IS NOT NULL OR coalesce(s.ends_at_ms, :end) > :start)
               -- One customer's hour is never metered in both forms.
               AND NOT EXISTS (
                   SELECT 1 FROM metering_records r
                   WHERE r.customer_id = s.customer_id AND r.product_id = s.product_id
                     AND r.dimension = d.key AND r.hour = :hour AND ",
            other_identity!("r.holder", "s.holder"),
            ")
               AND NOT EXISTS (
                   SELECT 1 FROM metering_records r
                   WHERE r.holder = s.holder AND r.holder <> '' AND r.product_id = s.product_id
                     AND r.dimension = d.key AND r.hour = :hour)
             GROUP BY s.product_id, s.holder, d.key
             ON CONFLICT DO NOTHING"
        ))
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":hour": hour.number(), ":start": millis(hour.start()), ":end": millis(hour.end()),
            })
        })
        .during("open records of zero")?;
    Ok(())
}
