//! Previews of publishing a plan's draft: what would change, and for whom.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::plan::PlanEntitlement;
use super::terms::EntitlementTerms;
use super::{CustomerId, FeatureId, PlanId, Quantity};

/// The changes that publishing a draft would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Preview {
    /// The version that would be published.
    pub version: i64,
    /// The subscriptions on the plan, by the version that they have.
    pub groups: Vec<AffectedGroup>,
}

/// Subscriptions that have the same version of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AffectedGroup {
    /// The version that they have; none while none was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Set if they are held to it, while others have a newer one.
    pub held: bool,
    /// Set if they would keep it, and so come to no change.
    pub keeps: bool,
    /// The number of subscriptions.
    pub subscriptions: u64,
    /// The first of their customers.
    pub customers: Vec<CustomerId>,
    /// Features that they would have more of.
    pub gains: Vec<Difference>,
    /// Features that they would have less of.
    pub loses: Vec<Difference>,
    /// Features that would be counted or billed otherwise.
    pub changes: Vec<Difference>,
}

/// Subscriptions whose customers come to have more, less or other features by what is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Regranted {
    /// The plan that they are on; none where none is mapped to what they bought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<PlanId>,
    /// The version that they have; none while none was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The plan that they come to; none where none is mapped any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_plan_id: Option<PlanId>,
    /// Its version; none of a plan that is not published, which grants nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_version: Option<i64>,
    /// The number of subscriptions.
    pub subscriptions: u64,
    /// The first of their customers.
    pub customers: Vec<CustomerId>,
    /// Features that they have more of.
    pub gains: Vec<Difference>,
    /// Features that they have less of.
    pub loses: Vec<Difference>,
    /// Features that are counted or billed otherwise.
    pub changes: Vec<Difference>,
}

/// One feature before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Difference {
    /// The feature.
    pub feature_id: FeatureId,
    /// The terms that the plan grants now; none if it does not have the feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<EntitlementTerms>,
    /// The terms that it would grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<EntitlementTerms>,
}

/// Gains, losses, and what is merely different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Features of which there is more.
    pub gains: Vec<Difference>,
    /// Features of which there is less.
    pub loses: Vec<Difference>,
    /// Features that are counted or billed otherwise.
    pub changes: Vec<Difference>,
}

/// Compares what two versions grant, feature by feature.
pub fn compare(before: &[PlanEntitlement], after: &[PlanEntitlement]) -> Differences {
    let find = |list: &[PlanEntitlement], id: &FeatureId| {
        list.iter().find(|it| it.feature_id == *id).map(|it| it.terms.clone())
    };
    let ids: BTreeSet<&FeatureId> = before.iter().chain(after).map(|it| &it.feature_id).collect();
    let mut differences = Differences::default();
    for id in ids {
        let (before, after) = (find(before, id), find(after, id));
        if before == after {
            continue;
        }
        let list = match allowance(before.as_ref()).cmp(&allowance(after.as_ref())) {
            std::cmp::Ordering::Less => &mut differences.gains,
            std::cmp::Ordering::Greater => &mut differences.loses,
            std::cmp::Ordering::Equal => &mut differences.changes,
        };
        list.push(Difference { feature_id: id.clone(), before, after });
    }
    differences
}

/// Ranks how much a customer may use: nothing, so much, or as much as they like. A limit that counts for each unit is
/// more than the same limit for all of them.
fn allowance(terms: Option<&EntitlementTerms>) -> (bool, bool, Option<Quantity>, bool) {
    let Some(terms) = terms else { return (false, false, None, false) };
    let limit = terms.limit.filter(|_| !terms.is_unlimited());
    (true, terms.never_denies(), limit.filter(|_| !terms.never_denies()), terms.per_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::terms::{Bill, ResetPeriod};

    fn terms(limit: Option<u32>) -> EntitlementTerms {
        EntitlementTerms { limit: limit.map(Quantity::from_units), ..Default::default() }
    }

    fn soft(limit: u32) -> EntitlementTerms {
        EntitlementTerms { soft: true, ..terms(Some(limit)) }
    }

    #[test]
    fn who_may_use_more_gains_and_who_may_use_less_loses() {
        let monthly = EntitlementTerms { reset: Some(ResetPeriod::Month), ..terms(Some(5)) };
        let overage = EntitlementTerms { bill: Bill::Overage, ..terms(Some(5)) };
        let each = EntitlementTerms { per_unit: true, ..terms(Some(5)) };
        let rows = [
            (None, Some(terms(Some(5))), "gains"),
            (Some(terms(Some(5))), None, "loses"),
            (Some(terms(Some(5))), Some(terms(Some(6))), "gains"),
            (Some(terms(Some(6))), Some(terms(Some(5))), "loses"),
            (Some(terms(Some(5))), Some(terms(None)), "gains"),
            (Some(terms(None)), Some(terms(Some(5))), "loses"),
            (Some(terms(Some(5))), Some(soft(5)), "gains"),
            (Some(terms(Some(5))), Some(overage), "gains"),
            (Some(soft(5)), Some(soft(9)), "changes"),
            (Some(terms(Some(5))), Some(each), "gains"),
            (Some(terms(Some(5))), Some(monthly), "changes"),
        ];
        for (before, after, expected) in rows {
            let list = |terms: &Option<EntitlementTerms>| -> Vec<PlanEntitlement> {
                let feature_id = FeatureId::new("f");
                terms
                    .iter()
                    .map(|it| PlanEntitlement { feature_id: feature_id.clone(), terms: it.clone() })
                    .collect()
            };
            let found = compare(&list(&before), &list(&after));
            let counts = (found.gains.len(), found.loses.len(), found.changes.len());
            let wanted = match expected {
                "gains" => (1, 0, 0),
                "loses" => (0, 1, 0),
                _ => (0, 0, 1),
            };
            assert_eq!(counts, wanted, "{before:?} to {after:?}");
        }
        let same = [PlanEntitlement { feature_id: FeatureId::new("f"), terms: terms(Some(1)) }];
        assert_eq!(compare(&same, &same), Differences::default());
    }
}
