//! Parking a record, and telling of what became of one.

use jiff::Timestamp;

use super::record_rows::record_in;
use crate::domain::event::EventType;
use crate::domain::ledger::ParkReason;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// Parks a record. AWS may have billed it where an attempt's answer was lost, whatever it said to others.
pub(crate) fn park(
    connection: &Connection,
    record: i64,
    reason: ParkReason,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET state = 'parked', reason = ?2, settled_at_ms = ?3,
                 uncertain = CASE WHEN EXISTS (SELECT 1 FROM metering_attempts
                     WHERE record_id = ?1 AND outcome = 'unknown') THEN 1 ELSE uncertain END
             WHERE id = ?1",
        )
        .and_then(|mut update| update.post((record, reason.as_str(), millis(now))))
        .during("park a record")?;
    self::emit_record_event(connection, EventType::MeteringParked, record, now)
}

pub(crate) fn emit_record_event(
    connection: &Connection,
    kind: EventType,
    record: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    match record_in(connection, record)? {
        Some(row) => append_event_in(connection, kind, Some(&row.customer_id), &row, now),
        None => Ok(()),
    }
}
