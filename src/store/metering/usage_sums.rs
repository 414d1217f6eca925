//! What all customers used, hour by hour: sums that are kept as usage is counted, a few rows an hour.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::domain::{ClockHour, FeatureId, ProductId, Quantity};
use crate::store::base::columns::quantity;
use crate::store::engine::sql::{self, Connection, Row, named_params};
use crate::store::{During, Store, StoreError};

/// The usage whose sums are asked for.
#[derive(Clone, Debug, Default)]
pub struct UsageSumFilter {
    /// The product that bears it.
    pub product_id: Option<ProductId>,
    /// The feature that it was reported of.
    pub feature_id: Option<FeatureId>,
}

impl Store {
    /// Returns what all customers used in a span, as amounts of the hours in it. It reads the sums of these hours, and
    /// nothing of any customer.
    pub async fn usage_sums(
        &self,
        filter: UsageSumFilter,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(Timestamp, Quantity)>, StoreError> {
        self.read_at_length(move |connection| {
            connection
                .prepare_cached(SUMS)
                .and_then(|mut select| {
                    let asked = named_params! {
                        ":first": ClockHour::of(since).number(),
                        ":end": ClockHour::not_before(until).number(),
                        ":product": filter.product_id.as_ref().map(ProductId::as_str),
                        ":feature": filter.feature_id.as_ref().map(FeatureId::as_str),
                    };
                    select.query_map(asked, amount)?.collect()
                })
                .during("sum the usage of all customers over time")
        })
        .await
    }
}

/// What was used of each feature of each product, as amounts of hours.
pub type FeatureSums = BTreeMap<ProductId, BTreeMap<FeatureId, Vec<(Timestamp, Quantity)>>>;

impl Store {
    /// Returns what all customers used of each feature in a span. The id of a feature is empty where usage was reported of a
    /// dimension.
    pub async fn usage_sums_by_feature(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<FeatureSums, StoreError> {
        self.read_at_length(move |connection| by_feature_in(connection, since, until)).await
    }
}

fn by_feature_in(
    connection: &Connection,
    since: Timestamp,
    until: Timestamp,
) -> Result<FeatureSums, StoreError> {
    let during = "sum the usage of each feature over time";
    let mut select = connection.prepare_cached(BY_FEATURE).during(during)?;
    let span = (ClockHour::of(since).number(), ClockHour::not_before(until).number());
    let mut rows = select.query(span).during(during)?;
    let mut sums = FeatureSums::new();
    while let Some(row) = rows.next().during(during)? {
        let text = |column| row.get::<_, String>(column).during(during);
        let (product, feature) = (ProductId::new(text(2)?), FeatureId::new(text(3)?));
        let of_feature = sums.entry(product).or_default().entry(feature).or_default();
        of_feature.push(amount(&row).during(during)?);
    }
    Ok(sums)
}

const BY_FEATURE: &str = "SELECT hour, quantity, product_id, feature_id FROM usage_sums
    WHERE hour >= ?1 AND hour < ?2 ORDER BY hour";

const SUMS: &str = "SELECT hour, sum(quantity) FROM usage_sums
    WHERE hour >= :first AND hour < :end AND (CAST(:product AS TEXT) IS NULL OR product_id = :product)
        AND (CAST(:feature AS TEXT) IS NULL OR feature_id = :feature)
    GROUP BY hour ORDER BY hour";

fn amount(row: &Row<'_>) -> sql::Result<(Timestamp, Quantity)> {
    Ok((ClockHour::from_number(row.get(0)?).start(), quantity(row.get(1)?)))
}

/// The sums that a report adds to.
#[derive(Default)]
pub(super) struct UsageSums(HashMap<ClockHour, Vec<UsageSum>>);

/// What is added to one sum.
struct UsageSum {
    product: Option<ProductId>,
    feature: Option<FeatureId>,
    millionths: i64,
}

impl UsageSums {
    /// Adds what was used, or takes it back. An hour has a few sums, so they are looked through.
    pub(super) fn add(
        &mut self,
        at: Timestamp,
        product: Option<&ProductId>,
        feature: Option<&FeatureId>,
        millionths: i64,
    ) {
        let sums = self.0.entry(ClockHour::of(at)).or_default();
        let same =
            |it: &&mut UsageSum| it.product.as_ref() == product && it.feature.as_ref() == feature;
        if let Some(sum) = sums.iter_mut().find(same) {
            sum.millionths = sum.millionths.saturating_add(millionths);
        } else {
            let (product, feature) = (product.cloned(), feature.cloned());
            sums.push(UsageSum { product, feature, millionths });
        }
    }

    /// Writes them.
    pub(super) fn write_in(self, connection: &Connection) -> Result<(), StoreError> {
        let mut add = connection
            .prepare_cached(
                "INSERT INTO usage_sums (hour, product_id, feature_id, quantity) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (hour, product_id, feature_id) DO UPDATE SET
                     quantity = usage_sums.quantity + excluded.quantity",
            )
            .during("sum usage")?;
        let mut hours: Vec<_> = self.0.into_iter().collect();
        hours.sort_unstable_by_key(|(hour, _)| *hour);
        for (hour, sums) in hours {
            for UsageSum { product, feature, millionths } in sums {
                let product = product.as_ref().map_or("", ProductId::as_str);
                let feature = feature.as_ref().map_or("", FeatureId::as_str);
                add.post_one((hour.number(), product, feature, millionths)).during("sum usage")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::connection::open_writer;
    use crate::store::engine::statements::plan_of;

    #[test]
    fn only_the_hours_that_are_asked_for_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("marketd.db")).unwrap();
        for statement in [SUMS, BY_FEATURE] {
            let plan = plan_of(&connection, statement);
            assert_eq!(plan, ["SEARCH usage_sums USING PRIMARY KEY (hour>? AND hour<?)"]);
        }
    }
}
