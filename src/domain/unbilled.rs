//! Grants that say that usage is billed to AWS, and that nothing bills.

use serde::Serialize;
use utoipa::ToSchema;

use super::feature::{Feature, FeatureKind};
use super::plan::PlanEntitlement;
use super::product::{Dimension, Product};
use super::terms::Bill;
use super::{DimensionKey, FeatureId, ProductId};

/// A grant whose usage would be billed to AWS, of a feature that no dimension of the product bills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnbilledGrant {
    /// The feature.
    pub feature_id: FeatureId,
    /// Its name.
    pub feature: String,
    /// The product that the plan is sold with.
    pub product_id: ProductId,
    /// Its title.
    pub product: String,
    /// The dimension that billed it, where that is gone from the listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<DimensionKey>,
}

/// Returns those of a plan's grants whose usage nothing bills, though their terms say that it is billed: the plan is sold with
/// these products.
pub fn unbilled(
    grants: &[PlanEntitlement],
    features: &[Feature],
    products: &[Product],
) -> Vec<UnbilledGrant> {
    let metered = grants.iter().filter(|grant| grant.terms.bill != Bill::None);
    let metered = metered.filter_map(|grant| {
        let feature = features.iter().find(|feature| feature.id == grant.feature_id)?;
        (feature.kind == FeatureKind::Metered).then_some(feature)
    });
    let missing = metered.flat_map(|feature| {
        products.iter().filter(|product| billed_by(product, feature).is_none()).map(|product| {
            UnbilledGrant {
                feature_id: feature.id.clone(),
                feature: feature.name.clone(),
                product_id: product.id.clone(),
                product: product.title.clone(),
                lost: lost(product, feature),
            }
        })
    });
    missing.collect()
}

/// Returns the dimension in a product's listing that bills a feature's usage.
pub(super) fn billed_by<'a>(product: &Product, feature: &'a Feature) -> Option<&'a DimensionKey> {
    let key = feature.dimensions.get(&product.id)?;
    let mut dimensions = product.dimensions.iter().filter(|it| it.key == *key);
    dimensions.any(|it| it.is_metered() && it.removed_at.is_none()).then_some(key)
}

/// Returns the dimension that billed a feature until it was gone from the listing.
fn lost(product: &Product, feature: &Feature) -> Option<DimensionKey> {
    let key = feature.dimensions.get(&product.id)?;
    let listed = |it: &&Dimension| it.key == *key && it.removed_at.is_none();
    product.dimensions.iter().find(listed).is_none().then(|| key.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::domain::feature::WhenStale;
    use crate::domain::terms::EntitlementTerms;
    use crate::domain::{EntityId, ProductCode};

    fn feature(id: &str, kind: FeatureKind, billed: &[(&str, &str)]) -> Feature {
        let billed =
            billed.iter().map(|(product, key)| (ProductId::new(*product), DimensionKey::new(*key)));
        Feature {
            id: FeatureId::new(id),
            name: id.to_uppercase(),
            kind,
            unit: None,
            dimensions: billed.collect::<BTreeMap<_, _>>(),
            when_stale: WhenStale::default(),
        }
    }

    fn product(id: &str, metered: &[(&str, bool)]) -> Product {
        let dimension = |(key, listed): &(&str, bool)| Dimension {
            key: DimensionKey::new(*key),
            name: (*key).to_owned(),
            unit: None,
            types: vec!["ExternallyMetered".to_owned()],
            plan_id: None,
            removed_at: (!listed).then_some(Timestamp::UNIX_EPOCH),
        };
        Product {
            id: ProductId::new(id),
            entity_id: EntityId::new(format!("prod-{id}")),
            product_code: ProductCode::new(id),
            title: format!("Acme {id}"),
            visibility: "Public".to_owned(),
            usage_plan_id: None,
            licensed_from: None,
            dimensions: metered.iter().map(dimension).collect(),
            plans: Vec::new(),
            imported_at: Timestamp::UNIX_EPOCH,
            synced_at: Timestamp::UNIX_EPOCH,
            held_endings: Vec::new(),
        }
    }

    #[test]
    fn a_grant_is_unbilled_where_its_product_has_no_dimension_for_it() {
        use FeatureKind::{Boolean, Metered, Numeric};
        let features = [
            feature("calls", Metered, &[("insight", "api_calls")]),
            feature("gone", Metered, &[("insight", "old")]),
            feature("seats", Numeric, &[]),
            feature("sso", Boolean, &[]),
        ];
        let insight = || product("insight", &[("api_calls", true), ("old", false)]);
        let classic = || product("classic", &[]);
        let rows: [(&str, Bill, Vec<Product>, &[&str]); 9] = [
            ("calls", Bill::All, vec![insight()], &[]),
            ("calls", Bill::All, vec![classic()], &["classic"]),
            ("calls", Bill::Overage, vec![insight(), classic()], &["classic"]),
            ("calls", Bill::None, vec![classic()], &[]),
            // A plan of the seller's own bills nothing to AWS, and nobody expects it to.
            ("calls", Bill::All, vec![], &[]),
            ("gone", Bill::All, vec![insight()], &["insight"]),
            ("seats", Bill::All, vec![classic()], &[]),
            ("sso", Bill::All, vec![classic()], &[]),
            ("unknown", Bill::All, vec![classic()], &[]),
        ];
        for (id, bill, products, expected) in rows {
            let terms = EntitlementTerms { bill, ..EntitlementTerms::default() };
            let grants = [PlanEntitlement { feature_id: FeatureId::new(id), terms }];
            let found = unbilled(&grants, &features, &products);
            let gone = found.iter().any(|it| it.lost == Some(DimensionKey::new("old")));
            assert_eq!(gone, id == "gone", "{id} {bill:?}");
            let found: Vec<&str> = found.iter().map(|it| it.product_id.as_str()).collect();
            assert_eq!(found, expected, "{id} {bill:?}");
        }
    }
}
