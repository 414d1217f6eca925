//! Metering records: the row for a holder, dimension and hour, and how quantities move between open rows.

use super::side_records::record_beside_in;
use super::slots::{FoundRecord, RecordKey, Slot, holder_text, slot_in};
use super::unknown_hours::unknown_hours_in;
use crate::domain::ClockHour;
use crate::domain::ledger::{ParkReason, Tenure};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// Finds the open record for a key, or makes it. An hour that is frozen is passed over for the next one
/// that is not, and so is an hour that the customer is metered for in the other form. But usage that AWS may have been
/// told of before stays in its hour: a record beside the frozen one bears it, which a person decides on.
pub(crate) fn open_record_in(
    connection: &Connection,
    key: &RecordKey,
) -> Result<FoundRecord, StoreError> {
    let why = match slot_in(connection, key, key.hour)? {
        Slot::Conflict => Some(ParkReason::DuplicateConflict),
        Slot::Taken if unknown_hours_in(connection)?.holds(key.hour) => Some(ParkReason::Restored),
        _ => None,
    };
    match why {
        Some(why) => record_beside_in(connection, key, why),
        None => later_record_in(connection, key),
    }
}

/// Finds or makes the open record for a key or for the first hour after it that takes more.
pub(crate) fn later_record_in(
    connection: &Connection,
    key: &RecordKey,
) -> Result<FoundRecord, StoreError> {
    let mut hour = key.hour;
    loop {
        match slot_in(connection, key, hour)? {
            Slot::Open(id) => return Ok(FoundRecord { id, hour, new: false }),
            Slot::Free => {
                return Ok(FoundRecord { id: insert_in(connection, key, hour)?, hour, new: true });
            }
            Slot::Taken | Slot::Conflict => hour = hour.next(),
        }
    }
}

/// Returns the hour in which [`open_record_in`] would find or make a record, if the subscription covers it: none
/// where every hour until its end is frozen.
pub(crate) fn hour_left_in(
    connection: &Connection,
    key: &RecordKey,
    tenure: Tenure,
) -> Result<Option<ClockHour>, StoreError> {
    let mut hour = key.hour;
    while tenure.covers(hour) {
        match slot_in(connection, key, hour)? {
            Slot::Open(_) | Slot::Free => return Ok(Some(hour)),
            // A record beside it bears what may not leave its hour.
            Slot::Conflict if hour == key.hour => return Ok(Some(hour)),
            Slot::Taken if hour == key.hour && unknown_hours_in(connection)?.holds(hour) => {
                return Ok(Some(hour));
            }
            Slot::Taken | Slot::Conflict => hour = hour.next(),
        }
    }
    Ok(None)
}

const INSERT: &str = "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
     VALUES (?1, ?2, ?3, ?4, ?5, 0, 'open') RETURNING id";

/// Makes open records in free hours; returns their ids in this order.
pub(super) fn insert_each_in(
    connection: &Connection,
    keys: &[&RecordKey],
) -> Result<Vec<i64>, StoreError> {
    let holders: Vec<String> =
        keys.iter().map(|key| holder_text(key.target.holder.as_ref())).collect();
    let rows = keys.iter().zip(&holders).map(|(key, holder)| row_of(key, holder, key.hour));
    connection
        .prepare_cached(INSERT)
        .and_then(|mut insert| insert.query_row_each(&rows.collect::<Vec<_>>(), |row| row.get(0)))
        .during("open metering records")
}

fn insert_in(connection: &Connection, key: &RecordKey, hour: ClockHour) -> Result<i64, StoreError> {
    let holder = holder_text(key.target.holder.as_ref());
    connection
        .prepare_cached(INSERT)
        .and_then(|mut insert| insert.query_row(row_of(key, &holder, hour), |row| row.get(0)))
        .during("open a metering record")
}

/// Returns the values of a new record.
fn row_of<'a>(
    key: &'a RecordKey,
    holder: &'a str,
    hour: ClockHour,
) -> (&'a str, &'a str, &'a str, &'a str, i64) {
    let target = &key.target;
    let (product, dimension) = (target.product_id.as_str(), target.dimension.as_str());
    (product, key.customer.as_str(), holder, dimension, hour.number())
}
