//! The usage that a metering record bears: when it was, and why it is billed to another hour than its own.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{ClockHour, Quantity};
use crate::store::base::columns::{quantity, timestamp};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// The events of a record that were moved for one reason, or those that were not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordUsage {
    /// The number of events.
    pub events: i64,
    /// Their units, as far as the record bears them.
    pub billed: Quantity,
    /// The time of the first.
    pub first_at: Timestamp,
    /// The time of the last.
    pub last_at: Timestamp,
    /// The reason why they are billed to another hour than their own; none where they are billed to theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
}

impl RecordUsage {
    /// Reports whether some of it was used in another hour than this.
    pub fn is_outside(&self, hour: ClockHour) -> bool {
        ClockHour::of(self.first_at) != hour || ClockHour::of(self.last_at) != hour
    }
}

/// Sums the events of a record by the reason why they were moved, the oldest first.
pub(super) fn usage_of_record_in(
    connection: &Connection,
    record: i64,
) -> Result<Vec<RecordUsage>, StoreError> {
    connection
        .prepare_cached(
            "SELECT count(*), CAST(sum(billed) AS BIGINT), min(at_ms), max(at_ms), moved FROM usage_events
             WHERE record_id = ?1 GROUP BY moved ORDER BY min(at_ms), moved",
        )
        .and_then(|mut select| {
            select
                .query_map([record], |row| {
                    Ok(RecordUsage {
                        events: row.get(0)?,
                        billed: quantity(row.get(1)?),
                        first_at: timestamp(row.get(2)?),
                        last_at: timestamp(row.get(3)?),
                        moved: row.get(4)?,
                    })
                })?
                .collect()
        })
        .during("sum a record's usage")
}
