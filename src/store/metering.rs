//! The ledger as people see it: records, their attempts, the balance, and what a person may decide.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;

use super::convert::{millis, optional_timestamp, timestamp};
use super::page::Page;
use super::records::{OpenRecord, open_record_in};
use super::usage::quantity;
use super::{During, Store, StoreError};
use crate::domain::{ClockHour, CustomerId, DimensionKey, Holder, LicenseArn, ProductId, Quantity};

/// A metering record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordRow {
    /// Its id.
    pub id: String,
    /// The product.
    pub product_id: ProductId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The licence, where it is metered by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<LicenseArn>,
    /// The dimension.
    pub dimension: DimensionKey,
    /// The hour's start.
    pub hour: ClockHour,
    /// How much; final once the state has left `open`.
    pub quantity: Quantity,
    /// How much of it came from an earlier hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub carried_in: Quantity,
    /// How much of it a person moved on to a later hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub carried_out: Quantity,
    /// `open`, `ready`, `sending`, `accepted`, `parked` or `written_off`.
    pub state: String,
    /// Why it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// AWS's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metering_record_id: Option<String>,
    /// How often it was sent.
    pub attempts: i64,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Until when AWS takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What a person noted when deciding on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(quantity: &Quantity) -> bool {
    *quantity == Quantity::ZERO
}

/// One attempt at sending a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    /// Which one.
    pub attempt: i64,
    /// When.
    pub at: Timestamp,
    /// What came of it; `unknown` where no answer came.
    pub outcome: String,
    /// AWS's words, or its id of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Which records to list.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// In this state.
    pub state: Option<String>,
    /// Of this product.
    pub product_id: Option<ProductId>,
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
}

/// Units by where they are. `reported` is counted at the door, the others are summed from the records: that
/// both agree is the proof that nothing was lost or made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Taken from the application.
    pub reported: Quantity,
    /// Billed.
    pub accepted: Quantity,
    /// On the way.
    pub pending: Quantity,
    /// For a person to decide.
    pub parked: Quantity,
    /// Given up by a person.
    pub written_off: Quantity,
}

impl Balance {
    /// Whether every reported unit is somewhere, and nothing else is.
    pub fn adds_up(&self) -> bool {
        let parts = [self.accepted, self.pending, self.parked, self.written_off];
        self.reported == parts.into_iter().sum()
    }
}

/// What a person decides about a parked record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send it again as it is.
    Retry,
    /// Bill its units with a later hour.
    CarryForward,
    /// Give it up.
    WriteOff,
}

/// Why a record could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such record.
    #[error("there is no metering record {0}")]
    Unknown(String),
    /// Nobody has to decide on it.
    #[error("metering record {id} is {state}; only parked ones are for a person to decide")]
    NotParked {
        /// The record.
        id: String,
        /// Its state.
        state: String,
    },
    /// AWS may have billed it, so its units may not go anywhere else.
    #[error(
        "AWS may have honoured metering record {0} although its answer was lost: retry it, or write it off"
    )]
    MaybeHonoured(String),
    /// Nobody bears it, so it cannot be sent.
    #[error(
        "metering record {0} has no subscription to be billed to: carry it forward once there is one"
    )]
    Unassigned(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Records, oldest first.
    pub async fn metering_records(
        &self,
        filter: RecordFilter,
        page: Page,
    ) -> Result<Vec<RecordRow>, StoreError> {
        self.read(move |connection| {
            let after = page.after.and_then(|key| key.parse::<i64>().ok()).unwrap_or(0);
            connection
                .prepare_cached(
                    "SELECT * FROM metering_records WHERE id > :after
                       AND (:state IS NULL OR state = :state)
                       AND (:product IS NULL OR product_id = :product)
                       AND (:customer IS NULL OR customer_id = :customer)
                     ORDER BY id LIMIT :limit",
                )
                .and_then(|mut select| {
                    select
                        .query_map(
                            named_params! {
                                ":after": after, ":state": filter.state, ":limit": page.limit,
                                ":product": filter.product_id.as_ref().map(ProductId::as_str),
                                ":customer": filter.customer_id.as_ref().map(CustomerId::as_str),
                            },
                            record_row,
                        )?
                        .collect()
                })
                .during("list metering records")
        })
        .await
    }

    /// One record and every attempt at it.
    pub async fn metering_record(
        &self,
        id: String,
    ) -> Result<Option<(RecordRow, Vec<AttemptRow>)>, StoreError> {
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
            Ok(Some((record, attempts)))
        })
        .await
    }

    /// The balance of every product.
    pub async fn metering_balance(&self) -> Result<BTreeMap<ProductId, Balance>, StoreError> {
        self.read(|connection| {
            let mut balances: BTreeMap<ProductId, Balance> = BTreeMap::new();
            let reported: Vec<(String, i64)> = connection
                .prepare_cached("SELECT product_id, reported FROM usage_totals")
                .and_then(|mut select| {
                    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                })
                .during("total usage")?;
            for (product, units) in reported {
                balances.entry(ProductId::new(product)).or_default().reported = quantity(units);
            }
            let sums: Vec<(String, String, i64)> = connection
                .prepare_cached(
                    "SELECT product_id, state, sum(quantity - carried_out) FROM metering_records
                     GROUP BY product_id, state",
                )
                .and_then(|mut select| {
                    select
                        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                        .collect()
                })
                .during("sum metering records")?;
            for (product, state, units) in sums {
                let balance = balances.entry(ProductId::new(product)).or_default();
                let part = match state.as_str() {
                    "accepted" => &mut balance.accepted,
                    "parked" => &mut balance.parked,
                    "written_off" => &mut balance.written_off,
                    _ => &mut balance.pending,
                };
                *part = [*part, quantity(units)].into_iter().sum();
            }
            Ok(balances)
        })
        .await
    }

    /// Does what a person decided about a parked record.
    pub async fn resolve_record(
        &self,
        id: String,
        resolution: Resolution,
        note: String,
        now: Timestamp,
    ) -> Result<RecordRow, ResolveError> {
        let record = self
            .write(move |connection| resolve_in(connection, &id, resolution, &note, now))
            .await?;
        self.nudges().metering.notify_one();
        Ok(record)
    }
}

fn resolve_in(
    connection: &Connection,
    id: &str,
    resolution: Resolution,
    note: &str,
    now: Timestamp,
) -> Result<RecordRow, ResolveError> {
    let unknown = || ResolveError::Unknown(id.to_owned());
    let number: i64 = id.parse().map_err(|_| unknown())?;
    let record = record_in(connection, number)?.ok_or_else(unknown)?;
    if record.state != "parked" {
        return Err(ResolveError::NotParked { id: id.to_owned(), state: record.state });
    }
    let (holder, unanswered): (String, bool) = connection
        .prepare_cached(
            "SELECT holder, EXISTS (SELECT 1 FROM metering_attempts
                 WHERE record_id = ?1 AND outcome = 'unknown') FROM metering_records WHERE id = ?1",
        )
        .and_then(|mut select| select.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))))
        .during("read a parked record")?;
    let statement = match resolution {
        Resolution::Retry if holder.is_empty() => {
            return Err(ResolveError::Unassigned(id.to_owned()));
        }
        Resolution::Retry => {
            "UPDATE metering_records SET state = 'ready', reason = 'retried', note = ?2,
                 next_attempt_at_ms = ?3, deadline_ms = ?3 + 3600000 WHERE id = ?1"
        }
        Resolution::CarryForward if unanswered => {
            return Err(ResolveError::MaybeHonoured(id.to_owned()));
        }
        Resolution::CarryForward => {
            carry_forward(connection, &record, Holder::parse(&holder), now)?;
            "UPDATE metering_records SET state = 'written_off', reason = 'carried_forward', note = ?2,
                 carried_out = quantity, settled_at_ms = ?3 WHERE id = ?1"
        }
        Resolution::WriteOff => {
            "UPDATE metering_records SET state = 'written_off', note = ?2, settled_at_ms = ?3 WHERE id = ?1"
        }
    };
    connection
        .prepare_cached(statement)
        .and_then(|mut update| update.execute((number, note, millis(now))))
        .during("resolve a record")?;
    record_in(connection, number)?.ok_or_else(unknown)
}

fn carry_forward(
    connection: &Connection,
    record: &RecordRow,
    holder: Option<Holder>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let subject = OpenRecord {
        id: 0,
        product_id: record.product_id.clone(),
        customer: record.customer_id.clone(),
        holder: holder.clone(),
        dimension: record.dimension.clone(),
        hour: ClockHour::of(now),
        quantity: 0,
    };
    let (target, _) = open_record_in(connection, &subject.key(holder, ClockHour::of(now)))?;
    connection
        .prepare_cached(
            "UPDATE metering_records SET quantity = quantity + ?2, carried_in = carried_in + ?2
             WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((target, record.quantity.millionths())))
        .during("carry a record forward")?;
    Ok(())
}

pub(super) fn record_in(connection: &Connection, id: i64) -> Result<Option<RecordRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM metering_records WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], record_row).optional())
        .during("read a metering record")
}

fn record_row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    let holder: String = row.get("holder")?;
    Ok(RecordRow {
        id: row.get::<_, i64>("id")?.to_string(),
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        customer_id: CustomerId::new(row.get::<_, String>("customer_id")?),
        license_arn: match Holder::parse(&holder) {
            Some(Holder::License(arn)) => Some(arn),
            _ => None,
        },
        dimension: DimensionKey::new(row.get::<_, String>("dimension")?),
        hour: ClockHour::from_number(row.get("hour")?),
        quantity: quantity(row.get("quantity")?),
        carried_in: quantity(row.get("carried_in")?),
        carried_out: quantity(row.get("carried_out")?),
        state: row.get("state")?,
        reason: row.get("reason")?,
        metering_record_id: row.get("metering_record_id")?,
        attempts: row.get("attempts")?,
        last_error: row.get("last_error")?,
        deadline: optional_timestamp(row.get("deadline_ms")?),
        note: row.get("note")?,
    })
}
