//! The ledger as people see it: records and every attempt at them.

use super::decisions::{DecisionRow, decisions_in};
use super::record_rows::{AttemptRow, RecordRow, record_in, record_row};
use crate::domain::{ClockHour, CustomerId, DimensionKey, Id, ProductId};
use crate::store::base::columns::timestamp;
use crate::store::base::filter::Conditions;
use crate::store::base::page::Page;
use crate::store::{During, Store, StoreError};

/// The filter of a list of records.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// The state of the records.
    pub state: Option<String>,
    /// The reason why the records are in it.
    pub reason: Option<String>,
    /// The dimension of the records.
    pub dimension: Option<DimensionKey>,
    /// The product of the records.
    pub product_id: Option<ProductId>,
    /// The customer of the records.
    pub customer_id: Option<CustomerId>,
    /// The first hour of the records.
    pub from: Option<ClockHour>,
    /// The hour that all records are before.
    pub before: Option<ClockHour>,
}

/// A record's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHistory {
    /// Every attempt at sending it.
    pub attempts: Vec<AttemptRow>,
    /// Every decision about it.
    pub decisions: Vec<DecisionRow>,
}

impl Store {
    /// Lists records, oldest first.
    pub async fn metering_records(
        &self,
        filter: RecordFilter,
        page: Page,
    ) -> Result<Vec<RecordRow>, StoreError> {
        self.read(move |connection| {
            let after = page.after.and_then(|key| key.parse::<i64>().ok()).unwrap_or(0);
            let (in_state, id) = in_state(filter.state.as_deref());
            // As the index of a product's records says it, where no state's index finds fewer.
            let of_product = match (&filter.state, &filter.customer_id) {
                (None, None) => "product_id || '' = :product",
                _ => "product_id = :product",
            };
            let which = Conditions::of_page(format!("{id} > :after"), after, page.limit)
                .with(":product", filter.product_id.map(Id::into_string), of_product)
                .with(
                    ":customer",
                    filter.customer_id.map(Id::into_string),
                    "customer_id = :customer",
                )
                .with(":from", filter.from.map(ClockHour::number), "hour >= :from")
                .with(":before", filter.before.map(ClockHour::number), "hour < :before")
                // The state is a word of the statement, so that the index of those few that are in it is used.
                .that(in_state);
            connection
                .prepare_cached(&format!(
                    "SELECT * FROM metering_records WHERE {} ORDER BY {id} LIMIT :limit",
                    which.text()
                ))
                .and_then(|mut select| select.query_map(&*which.values(), record_row)?.collect())
                .during("list metering records")
        })
        .await
    }

    /// Returns one record and its past, if there is a record of this id.
    pub async fn metering_record(
        &self,
        id: String,
    ) -> Result<Option<(RecordRow, RecordHistory)>, StoreError> {
        self.read(move |connection| {
            let Some(number) = id.parse().ok() else {
                return Ok(None);
            };
            let Some(record) = record_in(connection, number)? else {
                return Ok(None);
            };
            let attempts = connection
                .prepare_cached(
                    "SELECT * FROM metering_attempts WHERE record_id = ?1 ORDER BY attempt",
                )
                .and_then(|mut select| {
                    select
                        .query_map([number], |row| {
                            Ok(AttemptRow {
                                attempt: row.get("attempt")?,
                                at: timestamp(row.get("at_ms")?),
                                outcome: row.get("outcome")?,
                                detail: row.get("detail")?,
                            })
                        })?
                        .collect()
                })
                .during("read a record's attempts")?;
            let decisions = decisions_in(connection, number)?;
            Ok(Some((record, RecordHistory { attempts, decisions })))
        })
        .await
    }
}

/// Makes the condition for a state, and the id to sort by. Without statistics SQLite takes the rows' own order for the
/// best, and reads all of history for the few records of a state that passes. As an expression the id has no order, and the
/// state's index is left.
fn in_state(state: Option<&str>) -> (&'static str, &'static str) {
    match state {
        None => ("TRUE", "id"),
        Some("open") => ("state = 'open'", "+id"),
        Some("ready") => ("state = 'ready' AND state IN ('ready', 'sending')", "+id"),
        Some("sending") => ("state = 'sending' AND state IN ('ready', 'sending')", "+id"),
        Some("accepted") => ("state = 'accepted'", "id"),
        Some("parked") => ("state = 'parked'", "+id"),
        Some("written_off") => ("state = 'written_off'", "id"),
        // No record is in a state that does not exist.
        Some(_) => ("FALSE", "id"),
    }
}
