//! The ledger as people see it: records and every attempt at them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;
use utoipa::ToSchema;

use super::conditions::Conditions;
use super::convert::{optional_timestamp, timestamp};
use super::page::Page;
use super::sending::{identity_row, stamp_of};
use super::usage::quantity;
use super::{During, Store, StoreError};
use crate::domain::allocation::Allocation;
use crate::domain::ledger::WireIdentity;
use crate::domain::{
    ClockHour, CustomerId, DimensionKey, Holder, Id, LicenseArn, ProductId, Quantity,
};

/// A metering record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
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
    /// How much of its usage went on to a later hour when it was frozen: AWS takes whole units.
    #[serde(skip_serializing_if = "is_zero")]
    pub remainder: Quantity,
    /// How much of it a person moved on to a later hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub carried_out: Quantity,
    /// How it splits by tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<Allocation>,
    /// `open`, `ready`, `sending`, `accepted`, `parked` or `written_off`.
    pub state: String,
    /// Why it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Set where AWS may have billed a record that is parked or written off: the answer to an attempt was lost, and none
    /// has told since. It is never billed with another hour; a retry repeats it as it is.
    #[serde(skip_serializing_if = "is_not")]
    pub uncertain: bool,
    /// AWS's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metering_record_id: Option<String>,
    /// By what it names its buyer to AWS; none until it is frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_as: Option<WireIdentity>,
    /// Where it is metered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The moment within the hour that AWS is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// When it was frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<Timestamp>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_not(it: &bool) -> bool {
    !*it
}

/// One attempt at sending a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
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
    /// Of this hour or later.
    pub from: Option<ClockHour>,
    /// Of an hour before this one.
    pub before: Option<ClockHour>,
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
            let (in_state, id) = in_state(filter.state.as_deref());
            let which = Conditions::of_page(format!("{id} > :after"), after, page.limit)
                .with(":product", filter.product_id.map(Id::into_string), "product_id = :product")
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
}

/// The condition for a state, and the id to page and sort by. Without statistics SQLite takes the rows' own order for the
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

pub(super) fn record_in(connection: &Connection, id: i64) -> Result<Option<RecordRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM metering_records WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], record_row).optional())
        .during("read a metering record")
}

fn record_row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    let holder: String = row.get("holder")?;
    let hour = ClockHour::from_number(row.get("hour")?);
    let frozen_at = optional_timestamp(row.get("frozen_at_ms")?);
    let state: String = row.get("state")?;
    Ok(RecordRow {
        id: row.get::<_, i64>("id")?.to_string(),
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        customer_id: CustomerId::new(row.get::<_, String>("customer_id")?),
        license_arn: Holder::parse(&holder).and_then(Holder::into_license),
        dimension: DimensionKey::new(row.get::<_, String>("dimension")?),
        hour,
        quantity: quantity(row.get("quantity")?),
        carried_in: quantity(row.get("carried_in")?),
        remainder: quantity(row.get("remainder")?),
        carried_out: quantity(row.get("carried_out")?),
        allocations: row
            .get::<_, Option<String>>("allocations")?
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default(),
        sent_as: frozen_at.map(|_| identity_row(row)).transpose()?,
        region: row.get("region")?,
        timestamp: frozen_at.map(|_| stamp_of(row, hour)).transpose()?,
        frozen_at,
        uncertain: row.get("uncertain")? && ["parked", "written_off"].contains(&state.as_str()),
        state,
        reason: row.get("reason")?,
        metering_record_id: row.get("metering_record_id")?,
        attempts: row.get("attempts")?,
        last_error: row.get("last_error")?,
        deadline: optional_timestamp(row.get("deadline_ms")?),
        note: row.get("note")?,
    })
}
