//! What a finding is about, part by part: each surface puts it into its own words.

use crate::domain::counted::{agreeing, counted};
use crate::domain::ledger::ParkReason;
use crate::domain::{DimensionKey, PlanId, ProductId, Quantity};

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Usage that is parked for one reason.
    Parked {
        /// The reason, as one word.
        reason: String,
        /// The units of each product.
        units: Vec<(ProductId, Quantity)>,
        /// The number of records.
        records: u64,
    },
    /// A dimension that usage is billed by is gone.
    LostDimension {
        /// The product.
        product: ProductId,
        /// The dimension.
        dimension: DimensionKey,
    },
    /// A dimension that customers hold is gone.
    LostSoldDimension {
        /// The product.
        product: ProductId,
        /// The dimension.
        dimension: DimensionKey,
        /// The live subscriptions that are on it.
        held: u64,
    },
    /// A dimension that can be bought means no plan.
    Unmapped {
        /// The product.
        product: ProductId,
        /// The dimension.
        dimension: DimensionKey,
    },
    /// Live subscriptions are on a plan that is a draft.
    Draft {
        /// The plan.
        plan: PlanId,
        /// The number of subscriptions.
        held: u64,
    },
}

/// The words of a surface for what findings name. Those of the API are ids and its own words.
pub trait Surface {
    /// Returns what a product is called.
    fn product(&self, id: &ProductId) -> String {
        format!("product {id}")
    }

    /// Returns what a product is called where it is clear that it is one.
    fn title(&self, id: &ProductId) -> String {
        id.to_string()
    }

    /// Returns what a plan is called.
    fn plan(&self, id: &PlanId) -> String {
        format!("plan {id}")
    }

    /// Returns how a number is written.
    fn number(&self, number: &str) -> String {
        number.to_owned()
    }

    /// Says for what reason usage is parked.
    fn parked(&self, reason: &str) -> String {
        format!("parked as {reason}")
    }
}

/// The words of the API, which the command line prints too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Api;

impl Surface for Api {}

impl About {
    /// Says it in a sentence, in the words of a surface.
    pub fn said(&self, surface: &impl Surface) -> String {
        match self {
            Self::Parked { reason, units: of_each, records } => {
                let sum: Quantity = of_each.iter().map(|(_, quantity)| *quantity).sum();
                let of_each: Vec<String> = of_each
                    .iter()
                    .map(|(product, quantity)| {
                        let number = surface.number(&quantity.to_string());
                        let noun = if is_one(*quantity) { "unit" } else { "units" };
                        format!("{number} {noun} of {}", surface.title(product))
                    })
                    .collect();
                let happened = ParkReason::parse(reason).map(|it| it.diagnosis().happened);
                let said = format!(
                    "{} in {} {} {}, and not billed. {}",
                    of_each.join(", "),
                    counted(*records, "record"),
                    if is_one(sum) { "is" } else { "are" },
                    surface.parked(reason),
                    happened.unwrap_or_default()
                );
                said.trim_end().to_owned()
            }
            Self::LostDimension { product, dimension } => format!(
                "dimension {dimension} of {} is gone from the listing, and usage is billed by it",
                surface.product(product)
            ),
            Self::LostSoldDimension { product, dimension, held } => format!(
                "dimension {dimension} of {} is gone from the listing, and {} {} on it",
                surface.product(product),
                counted(*held, "live subscription"),
                agreeing(*held, "is", "are")
            ),
            Self::Unmapped { product, dimension } => format!(
                "dimension {dimension} of {} means no plan: whoever buys it has access to nothing (map it with `marketd listing import`)",
                surface.product(product)
            ),
            Self::Draft { plan, held } => format!(
                "{} is a draft that {} {} on",
                surface.plan(plan),
                counted(*held, "live subscription"),
                agreeing(*held, "stands", "stand")
            ),
        }
    }
}

/// Returns a quantity of units, in words.
pub(crate) fn units(quantity: Quantity) -> String {
    format!("{quantity} {}", if is_one(quantity) { "unit" } else { "units" })
}

/// Reports whether a quantity is one unit, which is said in the singular.
pub(crate) fn is_one(quantity: Quantity) -> bool {
    quantity == Quantity::from_units(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A surface that knows names.
    struct Named;

    impl Surface for Named {
        fn product(&self, _: &ProductId) -> String {
            "Acme Insight".into()
        }

        fn title(&self, _: &ProductId) -> String {
            "Acme Insight".into()
        }

        fn parked(&self, reason: &str) -> String {
            format!("parked ({})", reason.replace('_', " "))
        }
    }

    #[test]
    fn each_surface_says_a_finding_in_its_own_words() {
        let product = || ProductId::new("insight");
        let parked = About::Parked {
            reason: "customer_not_subscribed".into(),
            units: vec![(product(), Quantity::from_units(5))],
            records: 1,
        };
        let said = parked.said(&Api);
        assert!(
            said.starts_with(
                "5 units of insight in 1 record are parked as customer_not_subscribed, and not billed."
            ),
            "{said}"
        );
        let said = parked.said(&Named);
        assert!(
            said.starts_with(
                "5 units of Acme Insight in 1 record are parked (customer not subscribed), and not billed."
            ),
            "{said}"
        );
        let dimension = DimensionKey::new("pro");
        let lost = About::LostSoldDimension { product: product(), dimension, held: 2 };
        let expected = "is gone from the listing, and 2 live subscriptions are on it";
        assert_eq!(lost.said(&Api), format!("dimension pro of product insight {expected}"));
        assert_eq!(lost.said(&Named), format!("dimension pro of Acme Insight {expected}"));
    }
}
