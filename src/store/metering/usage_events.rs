//! Usage events as they were taken, and where each of them is billed.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::allocation::Tags;
use crate::domain::{
    ClockHour, CustomerId, DimensionKey, FeatureId, Holder, Id, LicenseArn, ProductId, Quantity,
};
use crate::store::base::by_time::ByTime;
use crate::store::base::columns::{quantity, timestamp};
use crate::store::base::filter::Conditions;
use crate::store::base::listing::Listing;
use crate::store::base::page::{Listed, Order, Page, Span};
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row};
use crate::store::{During, Store, StoreError};

/// A usage event, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsageRow {
    /// Its place in the order of receipt; also the cursor.
    #[serde(skip)]
    pub seq: i64,
    /// The application's id of it.
    pub id: String,
    /// The customer.
    pub customer_id: CustomerId,
    /// The feature, if it was named by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_id: Option<FeatureId>,
    /// The quantity.
    pub quantity: Quantity,
    /// The part of it that is billed; the rest is included in the plan, or not billed by AWS.
    pub billed: Quantity,
    /// The time of use.
    pub timestamp: Timestamp,
    /// The time at which it was reported.
    pub received_at: Timestamp,
    /// Its tags.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// The reason why it is billed to another hour than its own: `late`, `hour_frozen`, `before_start`, `fraction`,
    /// `carried_forward` by a person, or `rated_anew` since it turned out to be included once more than the plan
    /// includes; or to what its subscription went on as: `renewed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// The metering record that bears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metering_record: Option<BearingRecord>,
}

/// The metering record that bears an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BearingRecord {
    /// Its id.
    pub id: String,
    /// The product.
    pub product_id: ProductId,
    /// The dimension.
    pub dimension: DimensionKey,
    /// The licence, where it is metered by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_arn: Option<LicenseArn>,
    /// The hour that it is billed to.
    pub hour: ClockHour,
    /// The state of the record.
    pub state: String,
}

/// The filter of a list of usage events.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// The customer of the events.
    pub customer_id: Option<CustomerId>,
    /// The feature of the events.
    pub feature_id: Option<FeatureId>,
    /// The metering record that bills the events.
    pub record: Option<i64>,
    /// The time at which the events were reported.
    pub span: Span,
}

const COLUMNS: &str = "u.rowid AS seq, u.id AS event_id, u.customer_id AS user_id, u.feature_id, u.quantity AS used,
    u.billed, u.at_ms, u.received_at_ms, u.moved, u.tags, u.record_id, r.product_id, r.dimension, r.holder, r.hour,
    r.state";

impl Store {
    /// Lists usage events in the order of receipt.
    pub async fn usage_events(
        &self,
        filter: UsageFilter,
        order: Order,
        page: Page,
    ) -> Result<Listed<UsageRow>, StoreError> {
        self.read(move |connection| {
            list(connection, filter, order, &page).during("list usage events")
        })
        .await
    }

    /// Returns a usage event, if there is one of this id.
    pub async fn usage_event(&self, id: String) -> Result<Option<UsageRow>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM usage_events u LEFT JOIN metering_records r ON r.id = u.record_id
                     WHERE u.id = ?1"
                ))
                .and_then(|mut select| select.query_row([id], usage_row).optional())
                .during("read a usage event")
        })
        .await
    }
}

/// Kept in the order of receipt.
const BY_TIME: ByTime = ByTime { table: "usage_events", place: "rowid", at: "received_at_ms" };

fn list(
    connection: &Connection,
    filter: UsageFilter,
    order: Order,
    page: &Page,
) -> sql::Result<Listed<UsageRow>> {
    let which = BY_TIME
        .page_in(connection, (order, filter.span, page), "u.")?
        // A record's events are found by their index, others in the order of receipt.
        .with(":record", filter.record, "u.record_id = :record");
    let fitting = Conditions::of("TRUE", Vec::new())
        .with(":feature", filter.feature_id.map(Id::into_string), "u.feature_id = :feature")
        .with(
            ":customer",
            filter.customer_id.map(Id::into_string),
            "(u.customer_id = :customer OR u.customer_id IN (
                 SELECT alias FROM customer_aliases WHERE customer_id = :customer))",
        );
    let listing = Listing {
        columns: COLUMNS,
        from: "usage_events u LEFT JOIN metering_records r ON r.id = u.record_id",
        which,
        fitting,
        order: BY_TIME.order(order, "u."),
    };
    listing.page(connection, page.limit, usage_row, |row| row.seq.to_string())
}

fn usage_row(row: &Row<'_>) -> sql::Result<UsageRow> {
    let tags: Option<String> = row.get("tags")?;
    Ok(UsageRow {
        seq: row.get("seq")?,
        id: row.get("event_id")?,
        customer_id: CustomerId::new(row.get::<_, String>("user_id")?),
        feature_id: row.get::<_, Option<String>>("feature_id")?.map(FeatureId::new),
        quantity: quantity(row.get("used")?),
        billed: quantity(row.get("billed")?),
        timestamp: timestamp(row.get("at_ms")?),
        received_at: timestamp(row.get("received_at_ms")?),
        tags: tags.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        moved: row.get("moved")?,
        metering_record: bearing_record(row)?,
    })
}

fn bearing_record(row: &Row<'_>) -> sql::Result<Option<BearingRecord>> {
    let Some(product) = row.get::<_, Option<String>>("product_id")? else {
        return Ok(None);
    };
    let holder: String = row.get("holder")?;
    Ok(Some(BearingRecord {
        id: row.get::<_, i64>("record_id")?.to_string(),
        product_id: ProductId::new(product),
        dimension: DimensionKey::new(row.get::<_, String>("dimension")?),
        license_arn: Holder::parse(&holder).and_then(Holder::into_license),
        hour: ClockHour::from_number(row.get("hour")?),
        state: row.get("state")?,
    }))
}
