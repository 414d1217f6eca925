//! The usage of a customer over time, from the sums that limits go by.

use jiff::Timestamp;

use crate::domain::{CustomerId, FeatureId, Quantity};
use crate::store::base::columns::{millis, quantity, timestamp};
use crate::store::engine::sql;
use crate::store::{During, Store, StoreError};

impl Store {
    /// Returns what a customer used of a feature in a span, as amounts that each begin at a time: a few an hour. It reads
    /// the customer's sums of the feature, and no event.
    pub async fn usage_amounts(
        &self,
        customer: CustomerId,
        feature: FeatureId,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(Timestamp, Quantity)>, StoreError> {
        self.read_at_length(move |connection| {
            connection
                .prepare_cached(
                    "SELECT from_ms, quantity FROM usage_hours
                     WHERE customer_id = ?1 AND feature_id = ?2 AND from_ms >= ?3 AND from_ms < ?4",
                )
                .and_then(|mut select| {
                    let asked = (customer.as_str(), feature.as_str(), millis(since), millis(until));
                    let amount =
                        |row: &sql::Row<'_>| Ok((timestamp(row.get(0)?), quantity(row.get(1)?)));
                    select.query_map(asked, amount)?.collect()
                })
                .during("sum a customer's usage over time")
        })
        .await
    }
}
