//! Unknown stretches: hours of which AWS may know more than this ledger.

use crate::domain::ClockHour;
use crate::domain::event::EventType;
use crate::domain::ledger::{StretchCause, UnknownHours, UnknownStretch};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{self, Connection, Row};
use crate::store::{During, Store, StoreError};

/// The detail of an attempt that a lost ledger may have made at a record of the backup: a duplicate is that record.
pub(crate) const SENT_BY_LOST: &str = "it may have been sent as it is before a backup was put back";
/// The number of outbox cursors that are left out, since a ledger that was lost may have given them out.
pub(crate) const LOST_EVENTS: i64 = 1_000_000_000;

impl Store {
    /// Lists the hours of which AWS may know more than the ledger, the newest first.
    pub async fn unknown_stretches(&self) -> Result<Vec<UnknownStretch>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM unknown_stretches ORDER BY id DESC LIMIT 100")
                .and_then(|mut select| select.query_map([], stretch_row)?.collect())
                .during("read which hours are unknown")
        })
        .await
    }

    /// Reports whether a cursor of the outbox can be one that a ledger gave out which a backup has replaced since.
    pub async fn is_lost_cursor(&self, seq: i64) -> Result<bool, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT 1 FROM unknown_stretches
                     WHERE cause <> 'duplicate_record' AND last_event < ?1 AND ?1 <= last_event + ?2",
                )
                .and_then(|mut select| select.exists((seq, LOST_EVENTS)))
                .during("read which cursors are lost")
        })
        .await
    }
}

fn stretch_row(row: &Row<'_>) -> sql::Result<UnknownStretch> {
    let cause: String = row.get("cause")?;
    Ok(UnknownStretch {
        from: ClockHour::from_number(row.get("from_hour")?),
        until: ClockHour::from_number(row.get("through_hour")?).next(),
        cause: StretchCause::parse(&cause).unwrap_or(StretchCause::DuplicateRecord),
        replay_until: optional_timestamp(row.get("replay_until_ms")?),
        noticed_at: timestamp(row.get("noticed_at_ms")?),
    })
}

const UNKNOWN: &str = "SELECT max(through_hour), max(replay_until_ms) FROM unknown_stretches
     WHERE cause <> 'duplicate_record'";

/// Asks ahead for what [`unknown_hours_in`] reads.
pub(super) fn ask_unknown_hours(connection: &Connection) -> Result<(), StoreError> {
    connection.ask_ahead(UNKNOWN, &[]).during("read which hours are unknown")
}

/// Reads the hours whose usage a ledger that was lost may have billed.
pub(crate) fn unknown_hours_in(connection: &Connection) -> Result<UnknownHours, StoreError> {
    connection
        .prepare_cached(UNKNOWN)
        .and_then(|mut select| {
            select.query_row([], |row| {
                Ok(UnknownHours {
                    through: row.get::<_, Option<i64>>(0)?.map(ClockHour::from_number),
                    replay_until: optional_timestamp(row.get(1)?),
                })
            })
        })
        .during("read which hours are unknown")
}

/// Notes a stretch, and tells of it.
pub(crate) fn note_stretch_in(
    connection: &Connection,
    stretch: &UnknownStretch,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO unknown_stretches
                 (cause, from_hour, through_hour, replay_until_ms, last_event, noticed_at_ms)
             VALUES (?1, ?2, ?3, ?4, (SELECT coalesce(max(seq), 0) FROM events), ?5)",
        )
        .and_then(|mut insert| {
            insert.post((
                stretch.cause.as_str(),
                stretch.from.number(),
                stretch.until.number() - 1,
                stretch.replay_until.map(millis),
                millis(stretch.noticed_at),
            ))
        })
        .during("note which hours are unknown")?;
    if stretch.cause != StretchCause::DuplicateRecord {
        skip_lost_events_in(connection)?;
    }
    append_event_in(
        connection,
        EventType::MeteringUnknownStretch,
        None,
        stretch,
        stretch.noticed_at,
    )
}

/// Leaves out the cursors that the lost ledger may have given out, so that whoever has one misses nothing.
fn skip_lost_events_in(connection: &Connection) -> Result<(), StoreError> {
    let newest = connection.last_number("events").during("leave out lost events")?;
    connection.skip_numbers("events", newest + LOST_EVENTS).during("leave out lost events")
}
