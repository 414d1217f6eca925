//! Usage that is billed although the customer's plan does not grant its feature.

use std::fmt;

use super::counted::agreeing;
use super::feature::{Feature, FeatureKind};
use super::plan::Plan;
use super::product::Product;
use super::unbilled::billed_by;
use super::{DimensionKey, FeatureId, PlanId};

/// A feature whose usage a dimension of a product bills, and plans by which it is bought that do not grant it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungranted {
    /// The feature.
    pub feature_id: FeatureId,
    /// Its name.
    pub feature: String,
    /// The dimension that bills its usage.
    pub dimension: DimensionKey,
    /// The product's title.
    pub product: String,
    /// The plans that do not grant it, each with its name.
    pub plans: Vec<(PlanId, String)>,
    /// Set if no plan of the product does.
    pub by_none: bool,
}

impl Ungranted {
    /// Makes it of a feature that these plans do not grant; none if nothing bills its usage either.
    pub fn of<'a>(
        product: &Product,
        feature: &Feature,
        plans: impl IntoIterator<Item = &'a Plan>,
    ) -> Option<Self> {
        let plans: Vec<(PlanId, String)> =
            plans.into_iter().map(|plan| (plan.id.clone(), plan.name.clone())).collect();
        let bills = billed_by(product, feature).filter(|_| feature.kind == FeatureKind::Metered);
        let dimension = bills?.clone();
        (!plans.is_empty()).then(|| Self {
            feature_id: feature.id.clone(),
            feature: feature.name.clone(),
            dimension,
            product: product.title.clone(),
            plans,
            by_none: false,
        })
    }
}

/// Returns the features whose usage a product bills although plans by which it can be bought do not grant them.
pub fn ungranted(product: &Product, features: &[Feature]) -> Vec<Ungranted> {
    let bought = |plan: &&Plan| {
        let mut dimensions = product.dimensions.iter().filter(|it| it.removed_at.is_none());
        dimensions.any(|it| it.plan_id.as_ref() == Some(&plan.id))
            || product.usage_plan_id.as_ref() == Some(&plan.id)
    };
    let sold: Vec<&Plan> = product.plans.iter().filter(bought).collect();
    let found = features.iter().filter_map(|feature| {
        let lacks = |plan: &&&Plan| plan.entitlements.iter().all(|it| it.feature_id != feature.id);
        let lacking = Ungranted::of(product, feature, sold.iter().filter(lacks).copied())?;
        let by_none = lacking.plans.len() == sold.len();
        Some(Ungranted { by_none, ..lacking })
    });
    found.collect()
}

impl fmt::Display for Ungranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { feature, dimension, product, plans, .. } = self;
        let names: Vec<&str> = plans.iter().map(|(_, name)| name.as_str()).collect();
        let named = match names.as_slice() {
            [one] => format!("plan {one} does"),
            [first @ .., last] => format!("plans {} and {last} do", first.join(", ")),
            [] => String::new(),
        };
        let (named, users, of) = if self.by_none && names.len() > 1 {
            (format!("no plan of {product} grants it"), "its customers use", String::new())
        } else {
            let users = agreeing(
                names.len() as u64,
                "customers on that plan use",
                "customers on those plans use",
            );
            (format!("{named} not grant it"), users, format!(" of {product}"))
        };
        write!(
            f,
            "{feature} is billed although {named}: what {users} of it is charged at AWS by dimension {dimension}{of}, while access checks deny it."
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::super::feature::WhenStale;
    use super::super::plan::{PlanEntitlement, PlanStatus};
    use super::super::product::Dimension;
    use super::super::terms::EntitlementTerms;
    use super::super::{EntityId, ProductCode, ProductId, Source};
    use super::*;

    fn plan(id: &str, granted: &[&str]) -> Plan {
        let grant = |id: &&str| PlanEntitlement {
            feature_id: FeatureId::new(*id),
            terms: EntitlementTerms::default(),
        };
        Plan {
            id: PlanId::new(id),
            name: id.to_uppercase(),
            product_id: Some(ProductId::new("insight")),
            source: Source::Aws,
            aws: Vec::new(),
            status: PlanStatus::Published,
            version: Some(1),
            publication: None,
            pricing: "custom",
            entitlements: granted.iter().map(grant).collect(),
            draft: None,
        }
    }

    /// A product that sells these plans, each by a dimension of its own, and meters calls.
    fn product(plans: Vec<Plan>, is_listed: bool) -> Product {
        let dimension = |key: &str, kind: &str, plan: Option<PlanId>| Dimension {
            key: DimensionKey::new(key),
            name: key.to_owned(),
            unit: None,
            types: vec![kind.to_owned()],
            plan_id: plan,
            removed_at: (!is_listed && kind == "ExternallyMetered")
                .then_some(Timestamp::UNIX_EPOCH),
        };
        let mut dimensions: Vec<Dimension> = plans
            .iter()
            .map(|it| dimension(it.id.as_str(), "Entitled", Some(it.id.clone())))
            .collect();
        dimensions.push(dimension("api_calls", "ExternallyMetered", None));
        Product {
            id: ProductId::new("insight"),
            entity_id: EntityId::new("prod-1"),
            product_code: ProductCode::new("code"),
            title: "Acme Insight".to_owned(),
            visibility: "Public".to_owned(),
            usage_plan_id: None,
            licensed_from: None,
            dimensions,
            plans,
            imported_at: Timestamp::UNIX_EPOCH,
            synced_at: Timestamp::UNIX_EPOCH,
            held_endings: Vec::new(),
        }
    }

    fn calls(dimension: Option<&str>) -> Feature {
        let billed = dimension.map(|key| (ProductId::new("insight"), DimensionKey::new(key)));
        Feature {
            id: FeatureId::new("calls"),
            name: "Calls".to_owned(),
            kind: FeatureKind::Metered,
            unit: None,
            dimensions: billed.into_iter().collect::<BTreeMap<_, _>>(),
            when_stale: WhenStale::default(),
        }
    }

    #[test]
    fn what_is_billed_and_not_granted_is_said_with_the_plans() {
        let has = || plan("pro", &["calls"]);
        let lacks = |id: &str| plan(id, &["sso"]);
        let rows = [
            (product(vec![has(), lacks("basic")], true), Some("api_calls"), "plan BASIC does not"),
            (
                product(vec![has(), lacks("a"), lacks("b"), lacks("c")], true),
                Some("api_calls"),
                "plans A, B and C do not",
            ),
            (
                product(vec![lacks("a"), lacks("b")], true),
                Some("api_calls"),
                "no plan of Acme Insight grants it",
            ),
            (product(vec![lacks("a")], true), Some("api_calls"), "plan A does not grant it"),
            (product(vec![has()], true), Some("api_calls"), ""),
            (product(vec![lacks("a")], false), Some("api_calls"), ""),
            (product(vec![lacks("a")], true), None, ""),
            (product(vec![lacks("a")], true), Some("other"), ""),
            // Nobody can buy it.
            (product(vec![], true), Some("api_calls"), ""),
        ];
        for (product, dimension, expected) in rows {
            let found = ungranted(&product, &[calls(dimension)]);
            let said = found.first().map(ToString::to_string).unwrap_or_default();
            assert_eq!(said.is_empty(), expected.is_empty(), "{said} {expected}");
            assert!(said.contains(expected), "{said} {expected}");
        }
    }
}
