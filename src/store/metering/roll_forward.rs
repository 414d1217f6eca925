//! Open records that change their hour, or become part of another one. Their events go with them.

use jiff::Timestamp;

use super::open_records::OpenRecord;
use super::side_records::park_unknown_in;
use super::slots::{RecordKey, Slot, holder_text, slot_in};
use super::unknown_hours::unknown_hours_in;
use crate::domain::ledger::ParkReason;
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// Puts an open record off to the key's hour and holder, or to the first hour after it that takes it. Returns what bears
/// its usage then: itself, or the record that was there. What may have been billed before it came back with a backup does
/// not leave its hour: it is parked.
pub(crate) fn roll_forward_in(
    connection: &Connection,
    record: &OpenRecord,
    key: &RecordKey,
    why: &str,
    now: Timestamp,
) -> Result<i64, StoreError> {
    if unknown_hours_in(connection)?.holds(record.hour) {
        park_unknown_in(connection, record.id, ParkReason::Restored, now)?;
        return Ok(record.id);
    }
    move_to_in(connection, record.id, key, why)
}

/// Moves an open record to the key's hour and holder, or to the first hour after it that takes it. Returns what bears its
/// usage then.
pub(crate) fn move_to_in(
    connection: &Connection,
    record: i64,
    key: &RecordKey,
    why: &str,
) -> Result<i64, StoreError> {
    mark_moved(connection, record, why)?;
    let mut hour = key.hour;
    loop {
        match slot_in(connection, key, hour)? {
            Slot::Taken | Slot::Conflict => hour = hour.next(),
            Slot::Open(open) => {
                move_whole(connection, record, open)?;
                return Ok(open);
            }
            Slot::Free => {
                connection
                    .prepare_cached(
                        "UPDATE metering_records SET hour = ?2, customer_id = ?3, holder = ?4 WHERE id = ?1",
                    )
                    .and_then(|mut update| {
                        let holder = holder_text(key.target.holder.as_ref());
                        update.post((record, hour.number(), key.customer.as_str(), holder))
                    })
                    .during("put a record off")?;
                return Ok(record);
            }
        }
    }
}

/// Notes on a record's usage the reason why it is billed to another hour than its own.
pub(crate) fn mark_moved(
    connection: &Connection,
    record: i64,
    why: &str,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE usage_events SET moved = coalesce(moved, ?2) WHERE record_id = ?1")
        .and_then(|mut update| update.execute((record, why)))
        .during("mark moved usage")?;
    Ok(())
}

/// Makes everything of an open record another one's, its events too.
pub(crate) fn move_whole(connection: &Connection, from: i64, into: i64) -> Result<(), StoreError> {
    move_usage(connection, from, into)?;
    connection
        .prepare_cached("DELETE FROM metering_records WHERE id = ?1 AND ?2 <> ?1")
        .and_then(|mut delete| delete.execute((from, into)))
        .during("delete a record that another one has taken in")?;
    Ok(())
}

/// Moves the events of a record that was never frozen to an open one, with their quantities.
pub(crate) fn move_usage(connection: &Connection, from: i64, into: i64) -> Result<(), StoreError> {
    for statement in [
        "UPDATE usage_events SET record_id = ?2 WHERE record_id = ?1",
        "UPDATE metering_records SET quantity = quantity + moved.units, carried_in = carried_in + moved.carried,
             tagged = greatest(tagged, moved.split)
         FROM (SELECT quantity AS units, carried_in AS carried, tagged AS split
               FROM metering_records WHERE id = ?1) AS moved
         WHERE id = ?2",
        "INSERT INTO metering_tags (record_id, tags, quantity)
             SELECT ?2, tags, quantity FROM metering_tags WHERE record_id = ?1
             ON CONFLICT (record_id, tags) DO UPDATE SET quantity = metering_tags.quantity + excluded.quantity",
        "DELETE FROM metering_tags WHERE record_id = ?1 AND ?2 <> ?1",
    ] {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.post((from, into)))
            .during("move an open record's usage")?;
    }
    Ok(())
}
