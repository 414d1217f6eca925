//! Previews of publishing a plan's draft: what would change, and for whom.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::plan::PlanEntitlement;
use super::terms::{EntitlementTerms, ResetPeriod};
use super::unbilled::UnbilledGrant;
use super::{CustomerId, FeatureId, PlanId};

/// The changes that publishing a draft would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Preview {
    /// The version that would be published.
    pub version: i64,
    /// The subscriptions on the plan, by the version that they have.
    pub groups: Vec<AffectedGroup>,
    /// Grants that say that usage is billed to AWS, which no dimension of the product bills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unbilled: Vec<UnbilledGrant>,
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
    /// How what they may use differs.
    #[serde(flatten)]
    pub differences: Differences,
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
    /// How what they may use differs.
    #[serde(flatten)]
    pub differences: Differences,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Differences {
    /// Features of which there is more.
    pub gains: Vec<Difference>,
    /// Features of which there is less.
    pub loses: Vec<Difference>,
    /// Features that are counted or billed otherwise.
    pub changes: Vec<Difference>,
}

impl Differences {
    /// Reports whether nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.gains.is_empty() && self.loses.is_empty() && self.changes.is_empty()
    }
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
        let list = if is_more(before.as_ref(), after.as_ref()) {
            &mut differences.gains
        } else if is_more(after.as_ref(), before.as_ref()) {
            &mut differences.loses
        } else {
            &mut differences.changes
        };
        list.push(Difference { feature_id: id.clone(), before, after });
    }
    differences
}

/// Reports whether a customer may use more by the second terms than by the first, at any time and whatever they bought. A
/// limit of 500 a day is more than 1,000 a month for some and less for others, so neither of the two is more.
fn is_more(before: Option<&EntitlementTerms>, after: Option<&EntitlementTerms>) -> bool {
    let (before, after) = match (before, after) {
        (None, Some(_)) => return true,
        (_, None) => return false,
        (Some(before), Some(after)) => (before, after),
    };
    if before.never_denies() || after.never_denies() {
        return after.never_denies() && !before.never_denies();
    }
    // A limit that counts for each unit is more than the same limit for all of them.
    let much = |terms: &EntitlementTerms| (terms.limit, terms.per_unit);
    let (held, given) = (much(before), much(after));
    held != given
        && held.0 <= given.0
        && held.1 <= given.1
        && length(before.reset) >= length(after.reset)
}

/// Ranks how long a limit has to do.
const fn length(reset: Option<ResetPeriod>) -> u8 {
    match reset {
        Some(ResetPeriod::Hour) => 0,
        Some(ResetPeriod::Day) => 1,
        Some(ResetPeriod::Week) => 2,
        Some(ResetPeriod::Month) => 3,
        Some(ResetPeriod::Year) => 4,
        None => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Quantity;
    use crate::domain::terms::Bill;

    fn terms(limit: Option<u32>) -> EntitlementTerms {
        EntitlementTerms { limit: limit.map(Quantity::from_units), ..Default::default() }
    }

    fn each_period(limit: u32, reset: ResetPeriod) -> EntitlementTerms {
        EntitlementTerms { reset: Some(reset), ..terms(Some(limit)) }
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
            // More in a month, and less in a day.
            (
                Some(each_period(1_000, ResetPeriod::Month)),
                Some(each_period(500, ResetPeriod::Day)),
                "changes",
            ),
            (
                Some(each_period(500, ResetPeriod::Day)),
                Some(each_period(1_000, ResetPeriod::Month)),
                "changes",
            ),
            (
                Some(each_period(500, ResetPeriod::Month)),
                Some(each_period(1_000, ResetPeriod::Day)),
                "gains",
            ),
            (
                Some(each_period(1_000, ResetPeriod::Day)),
                Some(each_period(500, ResetPeriod::Month)),
                "loses",
            ),
            (
                Some(terms(Some(1_000))),
                Some(EntitlementTerms { per_unit: true, ..terms(Some(5)) }),
                "changes",
            ),
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
