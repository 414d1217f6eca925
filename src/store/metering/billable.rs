//! Open and frozen records, each with the subscription that it is billed to.

use std::rc::Rc;

use jiff::Timestamp;

use super::billed::{BilledSubscription, BilledSubscriptions};
use super::open_records::{OpenRecord, open_record, open_record_row};
use crate::domain::ClockHour;
use crate::domain::aws_limits::FINAL_HOUR;
use crate::store::base::columns::millis;
use crate::store::engine::sql::{self, Connection, Params};
use crate::store::{During, StoreError};

/// The number of hours back in which frozen records are looked for, beyond any window that AWS gives.
const FROZEN_HOURS: i64 = 30;

/// A record, and the subscription that it is billed to.
#[derive(Clone, Debug)]
pub(crate) struct BillableRecord {
    pub(crate) record: OpenRecord,
    /// True if its deadline is the end of the subscription's final hour. The column is named `hastened`.
    pub(crate) final_hour_deadline: bool,
    pub(crate) billed: Rc<BilledSubscription>,
}

/// The place after which a list of records goes on: an hour and an id.
pub(crate) type Place = (i64, i64);

/// The place before every record.
pub(crate) const BEGINNING: Place = (i64::MIN, i64::MIN);

/// Records in the order of their hours.
macro_rules! records {
    ($($which:literal),+) => {
        concat!(
            "SELECT ", open_record!(), ", r.hastened FROM metering_records r
             WHERE ", $($which),+, " ORDER BY r.hour, r.id"
        )
    };
}

/// The ids of those whose subscriptions are ending or have just ended, in so many hours.
macro_rules! of_leavers {
    ($which:literal) => {
        records!(
            "r.id IN (
                 SELECT o.id FROM (
                     SELECT product_id, holder FROM subscriptions WHERE status = 'ending'
                     -- Twice is no harm here, and a mere UNION has SQLite read all subscriptions in the order of an
                     -- index to merge them.
                     UNION ALL SELECT product_id, holder FROM subscriptions WHERE ended_at_ms > ?1
                 ) e
                 CROSS JOIN dimensions d ON d.product_id = e.product_id AND d.metered = 1
                 CROSS JOIN metering_records o ON o.holder = e.holder AND o.holder <> ''
                     AND o.product_id = e.product_id AND o.dimension = d.key AND o.hour BETWEEN ?2 AND ?3
                 WHERE ",
            $which,
            ")"
        )
    };
}

const OPEN_OF_LEAVERS: &str = of_leavers!("o.state = 'open' AND o.beside = 0");
const FROZEN_OF_LEAVERS: &str = of_leavers!("o.state IN ('ready', 'sending') AND o.hastened = 0");

/// Returns so many open records up to an hour, after a place; and the place where the rest goes on, if there may be
/// more.
pub(crate) fn open_until(
    connection: &Connection,
    last: ClockHour,
    after: Place,
    most: usize,
) -> Result<(Vec<BillableRecord>, Option<Place>), StoreError> {
    let statement = concat!(
        records!(
            "r.state = 'open' AND r.hour <= ?1 AND (r.hour, r.id) > (?2, ?3) AND r.holder <> '' AND r.beside = 0"
        ),
        " LIMIT ?4"
    );
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = read(connection, statement, (last.number(), after.0, after.1, limit))?;
    let next = rows.last().filter(|_| rows.len() == most);
    let next = next.map(|(record, _)| (record.hour.number(), record.id));
    Ok((with_subscriptions(connection, rows)?, next))
}

/// Returns the open records of subscriptions that are ending, or have just ended.
pub(crate) fn open_of_leavers(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<BillableRecord>, StoreError> {
    select(connection, OPEN_OF_LEAVERS, leavers_since(now, 2))
}

/// Returns the frozen records of such subscriptions that still have the deadline of their hour.
pub(crate) fn frozen_of_leavers(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<BillableRecord>, StoreError> {
    select(connection, FROZEN_OF_LEAVERS, leavers_since(now, FROZEN_HOURS))
}

/// Returns the frozen records whose deadline is the end of a subscription's final hour.
pub(crate) fn frozen_for_final_hour(
    connection: &Connection,
) -> Result<Vec<BillableRecord>, StoreError> {
    select(connection, records!("r.hastened = 1 AND r.state IN ('ready', 'sending')"), [])
}

/// Returns the time from which on subscriptions have just ended, and the hours that are looked at.
fn leavers_since(now: Timestamp, hours_back: i64) -> (i64, i64, i64) {
    let hour = ClockHour::of(now).number();
    let since = now.saturating_sub(FINAL_HOUR * 2).unwrap_or(Timestamp::MIN);
    (millis(since), hour - hours_back, hour)
}

fn select(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> Result<Vec<BillableRecord>, StoreError> {
    with_subscriptions(connection, read(connection, statement, values)?)
}

fn read(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> Result<Vec<(OpenRecord, bool)>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            let row = |row: &sql::Row<'_>| Ok((open_record_row(row)?, row.get(8)?));
            select.query_map(values, row)?.collect()
        })
        .during("find metering records")
}

/// Leaves out records of holders without any subscription.
fn with_subscriptions(
    connection: &Connection,
    rows: Vec<(OpenRecord, bool)>,
) -> Result<Vec<BillableRecord>, StoreError> {
    let mut subscriptions = BilledSubscriptions::new(connection);
    let mut found = Vec::with_capacity(rows.len());
    for (record, final_hour_deadline) in rows {
        let Some(holder) = &record.holder else { continue };
        if let Some(billed) = subscriptions.of(&record.product_id, holder)? {
            found.push(BillableRecord { record, final_hour_deadline, billed });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    /// Made once a pass, inside the writer's transaction: what has ended long ago must cost nothing.
    #[test]
    fn who_is_leaving_is_found_without_reading_who_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        for statement in [OPEN_OF_LEAVERS, FROZEN_OF_LEAVERS] {
            let plan = plan_of(&connection, statement);
            let of = |step: &&String| step.contains("subscriptions");
            let indexes = ["subscriptions_ending", "subscriptions_ended"];
            for index in indexes {
                assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:#?}");
            }
            // Whoever is ending now is few, and all that its own index holds.
            let scans = plan.iter().filter(of).filter(|step| step.starts_with("SCAN"));
            let whole: Vec<_> = scans.filter(|step| !step.contains(indexes[0])).collect();
            assert!(whole.is_empty(), "{whole:?} of {plan:#?}");
        }
    }
}
