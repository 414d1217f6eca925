//! The first hour of a licence that AWS takes usage for.

use crate::domain::{ClockHour, Holder};
use crate::store::base::columns::timestamp;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

// A renewal that keeps its licence starts later than the licence did.
const STARTS: &str = "SELECT least(a.starts_at_ms, l.first_updated_at_ms)
     FROM licenses l JOIN agreements a USING (agreement_id)
     WHERE l.license_arn = ?1 AND a.starts_at_ms IS NOT NULL";

/// Asks ahead for what [`first_hour_in`] reads.
pub(crate) fn ask_first_hour(connection: &Connection, holder: &Holder) -> Result<(), StoreError> {
    let Holder::License(arn) = holder else { return Ok(()) };
    connection.ask_ahead(STARTS, &[arn.as_str()]).during("read when a licence began")
}

/// Returns the first hour that AWS takes for a licence, where it has told a start. A buyer whose start nobody told is
/// billed for whatever the window allows.
pub(crate) fn first_hour_in(
    connection: &Connection,
    holder: Option<&Holder>,
) -> Result<Option<ClockHour>, StoreError> {
    let Some(Holder::License(arn)) = holder else {
        return Ok(None);
    };
    connection
        .prepare_cached(STARTS)
        .and_then(|mut select| select.query_row([arn.as_str()], |row| row.get(0)).optional())
        .map(|starts: Option<i64>| starts.map(|millis| ClockHour::of(timestamp(millis))))
        .during("read when a licence began")
}
