//! Metering records as they are shown.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::allocation::Allocation;
use crate::domain::ledger::{WireIdentity, shown_state};
use crate::domain::{
    AccountId, ClockHour, CustomerId, CustomerIdentifier, DimensionKey, Holder, LicenseArn,
    ProductCode, ProductId, Quantity,
};
use crate::store::base::columns::{optional_timestamp, quantity};
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row};
use crate::store::{During, StoreError};

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
    /// The quantity; final once the state has left `open`.
    pub quantity: Quantity,
    /// The part of it that came from an earlier hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub carried_in: Quantity,
    /// The part of its usage that went on to a later hour when it was frozen: AWS takes whole units.
    #[serde(skip_serializing_if = "is_zero")]
    pub remainder: Quantity,
    /// The part of it that a person moved on to a later hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub carried_out: Quantity,
    /// The split by tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<Allocation>,
    /// `open`, `ready`, `sending`, `accepted`, `parked` or `written_off`.
    pub state: String,
    /// The reason why it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Set where AWS may have billed a record that is parked or written off: the answer to an attempt was lost, and
    /// none has told since. It is never billed with another hour; a retry repeats it as it is.
    #[serde(skip_serializing_if = "is_not")]
    pub uncertain: bool,
    /// AWS's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metering_record_id: Option<String>,
    /// The names by which it gives AWS its buyer; none until it is frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_as: Option<WireIdentity>,
    /// The region in which it is metered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The moment within the hour that AWS is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The time at which it was frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<Timestamp>,
    /// The number of attempts.
    pub attempts: i64,
    /// The last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The time until which AWS takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The newest note about it, as of the person who decided on it; `decisions` has all of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RecordRow {
    /// Returns its place in a list.
    pub fn key(&self) -> String {
        format!("{} {}", self.hour.number(), self.id)
    }

    /// Returns the word by which people are shown its state.
    pub fn shown_state(&self) -> &str {
        shown_state(&self.state, self.reason.as_deref())
    }
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
    /// The number of the attempt.
    pub attempt: i64,
    /// The time of the attempt.
    pub at: Timestamp,
    /// The outcome; `unknown` where no answer came.
    pub outcome: String,
    /// AWS's words, or its id of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

pub(crate) fn record_in(connection: &Connection, id: i64) -> Result<Option<RecordRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM metering_records WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], record_row).optional())
        .during("read a metering record")
}

pub(crate) fn record_row(row: &Row<'_>) -> sql::Result<RecordRow> {
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

/// Reads the names by which a frozen record gives AWS its buyer. A holder that is a licence is not written twice.
pub(crate) fn identity_row(row: &sql::Row<'_>) -> sql::Result<WireIdentity> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let own = Holder::parse(row.get_ref("holder")?.as_str()?).and_then(Holder::into_license);
    Ok(WireIdentity {
        product_code: text("product_code")?.map(ProductCode::new),
        customer_identifier: text("customer_identifier")?.map(CustomerIdentifier::new),
        account_id: text("account_id")?.map(AccountId::new),
        license_arn: text("license_arn")?.map(LicenseArn::new).or(own),
    })
}

/// Reads the moment that AWS is told with a frozen record.
pub(crate) fn stamp_of(row: &sql::Row<'_>, hour: ClockHour) -> sql::Result<Timestamp> {
    row.get("stamp_ms").map(|stamp| optional_timestamp(stamp).unwrap_or(hour.start()))
}
