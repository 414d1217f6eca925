//! Standstills: when no call with a product's usage came to anything, and what the records say of it that waited.
//!
//! While nothing goes through, AWS is asked by single calls. Most of what waits is in none of them, and would have nothing to
//! say of what kept it; nor is it written anew with each call, be it a million records.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::record_rows::RecordRow;
use crate::domain::ProductId;
use crate::domain::ledger::{Standstill, StandstillCause};
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{self, Connection, OptionalExtension as _};
use crate::store::{During, Store, StoreError};

/// The time after which a standstill is forgotten: by then no record waits any more that it kept.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The time before a deadline within which a standstill that is over may still be why it passed.
const TOO_LATE: SignedDuration = SignedDuration::from_hours(1);

impl Store {
    /// Notes that a call with a product's usage came to nothing, and that others do not go through either.
    pub async fn note_standstill(
        &self,
        product: ProductId,
        cause: StandstillCause,
        error: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            note_in(connection, &product, cause, &error, now).during("note a standstill")
        })
        .await
    }

    /// Notes that a call with a product's usage went through.
    pub async fn end_standstill(&self, product: ProductId) -> Result<(), StoreError> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE metering_standstills SET ended = 1 WHERE product_id = ?1 AND ended = 0",
                )
                .and_then(|mut update| update.execute([product.as_str()]))
                .during("end a standstill")
                .map(drop)
        })
        .await
    }
}

fn note_in(
    connection: &Connection,
    product: &ProductId,
    cause: StandstillCause,
    error: &str,
    now: Timestamp,
) -> sql::Result<()> {
    let goes_on = connection
        .prepare_cached(
            "UPDATE metering_standstills SET cause = ?2, error = ?3, until_ms = greatest(until_ms, ?4)
             WHERE product_id = ?1 AND ended = 0",
        )?
        .execute((product.as_str(), cause.as_str(), error, millis(now)))?;
    if goes_on > 0 {
        return Ok(());
    }
    let forgotten = now.saturating_sub(FORGOTTEN_AFTER).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached("DELETE FROM metering_standstills WHERE product_id = ?1 AND until_ms < ?2")?
        .execute((product.as_str(), millis(forgotten)))?;
    connection
        .prepare_cached(
            "INSERT INTO metering_standstills (product_id, cause, error, since_ms, until_ms)
             VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute((product.as_str(), cause.as_str(), error, millis(now)))?;
    Ok(())
}

fn standstill_row(row: &sql::Row<'_>) -> sql::Result<Standstill> {
    let cause: String = row.get("cause")?;
    Ok(Standstill {
        // Written from the same words.
        cause: StandstillCause::parse(&cause).unwrap_or(StandstillCause::Unanswered),
        since: timestamp(row.get("since_ms")?),
        until: timestamp(row.get("until_ms")?),
        error: row.get("error")?,
    })
}

/// Returns the standstill that kept a record until its deadline, if one did: it goes on, or it was over too late for all that
/// waited to go out.
pub(crate) fn standstill_until(
    connection: &Connection,
    product: &ProductId,
    frozen_at: Timestamp,
    deadline: Timestamp,
) -> Result<Option<Standstill>, StoreError> {
    let late = deadline.saturating_sub(TOO_LATE).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached(
            "SELECT * FROM metering_standstills
             WHERE product_id = ?1 AND until_ms >= ?2 AND (ended = 0 OR until_ms >= ?3)
             ORDER BY until_ms DESC LIMIT 1",
        )
        .and_then(|mut select| {
            let key = (product.as_str(), millis(frozen_at), millis(late));
            select.query_row(key, standstill_row).optional()
        })
        .during("find what kept a record")
}

/// Has records that wait say what keeps them, as far as nothing goes through at the moment.
pub(crate) fn say_what_keeps(
    connection: &Connection,
    rows: &mut [RecordRow],
) -> Result<(), StoreError> {
    let waits = |row: &RecordRow| matches!(row.state.as_str(), "ready" | "sending");
    if !rows.iter().any(waits) {
        return Ok(());
    }
    let running: HashMap<String, Standstill> = connection
        .prepare_cached("SELECT * FROM metering_standstills WHERE ended = 0")
        .and_then(|mut select| {
            select
                .query_map([], |row| Ok((row.get("product_id")?, standstill_row(row)?)))?
                .collect()
        })
        .during("find what keeps records")?;
    for row in rows.iter_mut().filter(|row| waits(row)) {
        if let Some(standstill) = running.get(row.product_id.as_str()) {
            row.last_error = Some(standstill.told_by(row.attempts, row.last_error.as_deref()));
        }
    }
    Ok(())
}
