//! The month as finance closes it: units by product, customer and dimension.

use rusqlite::named_params;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{ClockHour, CustomerId, DimensionKey, ProductId, Quantity};
use crate::store::base::columns::quantity;
use crate::store::{During, Store, StoreError};

/// Which hours a report sums.
#[derive(Clone, Debug)]
pub struct ReportFilter {
    /// Of this hour or later.
    pub from: ClockHour,
    /// Of an hour before this one.
    pub before: ClockHour,
    /// Of this product.
    pub product_id: Option<ProductId>,
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
}

/// A customer's usage of a dimension in those hours, by its state. The hours are those that are billed:
/// usage that went on to a later hour counts there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReportRow {
    /// The product.
    pub product_id: ProductId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The dimension.
    pub dimension: DimensionKey,
    /// Metering records.
    pub records: i64,
    /// Everything: the sum of the next four.
    pub reported: Quantity,
    /// Billed.
    pub accepted: Quantity,
    /// On the way.
    pub pending: Quantity,
    /// For a person to decide.
    pub parked: Quantity,
    /// Given up by a person.
    pub written_off: Quantity,
    /// Of all this, what came from earlier hours.
    pub carried_in: Quantity,
    /// The part that a person moved on to a later hour; not part of the sum.
    pub carried_out: Quantity,
    /// Of what is parked or written off, what AWS may have billed all the same: an answer was lost.
    pub uncertain: Quantity,
}

impl Store {
    /// Sums the ledger by product, customer and dimension.
    pub async fn metering_report(
        &self,
        filter: ReportFilter,
    ) -> Result<Vec<ReportRow>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT product_id, customer_id, dimension, count(*) AS records,
                         sum(quantity - carried_out) AS reported,
                         sum((state = 'accepted') * (quantity - carried_out)) AS accepted,
                         sum((state IN ('open', 'ready', 'sending')) * (quantity - carried_out)) AS pending,
                         sum((state = 'parked') * (quantity - carried_out)) AS parked,
                         sum((state = 'written_off') * (quantity - carried_out)) AS written_off,
                         sum(carried_in) AS carried_in, sum(carried_out) AS carried_out,
                         sum((state IN ('parked', 'written_off')) * uncertain * (quantity - carried_out)) AS uncertain
                     FROM metering_records
                     WHERE hour >= :from AND hour < :before
                       AND (:product IS NULL OR product_id = :product)
                       AND (:customer IS NULL OR customer_id = :customer)
                     GROUP BY product_id, customer_id, dimension
                     ORDER BY product_id, customer_id, dimension",
                )
                .and_then(|mut select| {
                    let values = named_params! {
                        ":from": filter.from.number(), ":before": filter.before.number(),
                        ":product": filter.product_id.as_ref().map(ProductId::as_str),
                        ":customer": filter.customer_id.as_ref().map(CustomerId::as_str),
                    };
                    select.query_map(values, report_row)?.collect()
                })
                .during("sum the ledger by customer")
        })
        .await
    }
}

fn report_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ReportRow> {
    let units = |column: &str| row.get(column).map(quantity);
    Ok(ReportRow {
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        customer_id: CustomerId::new(row.get::<_, String>("customer_id")?),
        dimension: DimensionKey::new(row.get::<_, String>("dimension")?),
        records: row.get("records")?,
        reported: units("reported")?,
        accepted: units("accepted")?,
        pending: units("pending")?,
        parked: units("parked")?,
        written_off: units("written_off")?,
        carried_in: units("carried_in")?,
        carried_out: units("carried_out")?,
        uncertain: units("uncertain")?,
    })
}
