//! Attribution of usage of a feature, which is billed by a dimension in each of several products. Reports, consumption and
//! access checks all go by this, so that what a check allows is what is taken.

use super::super::{ClockHour, Holder, LicenseArn};
use super::attribution::{Attribution, Candidate, Unattributed, UsageTime, attribute};
use super::tenure::Tenure;

/// The holder that usage is billed to, among a customer's subscriptions of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderChoice {
    /// This holder.
    Holder(Holder),
    /// None yet: it waits for a subscription.
    Waits,
    /// Nobody at AWS: it is counted, not billed.
    Counted,
}

/// The product and the holder in it that usage of a feature is billed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureBearer<P> {
    /// This product's holder.
    Holder(P, Holder),
    /// None yet: it waits under this product.
    Waits(P),
    /// Nobody at AWS.
    Nobody,
}

/// The reason why usage of a feature belongs nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureUnattributed<P, E> {
    /// Each product that might bear it refuses; the first says why.
    Refused(E),
    /// Several products may bear it.
    Several(Vec<P>),
}

/// Chooses among the products of which the customer holds, or held, something.
pub fn choose_product<P, E>(
    choices: impl IntoIterator<Item = (P, Result<HolderChoice, E>)>,
) -> Result<FeatureBearer<P>, FeatureUnattributed<P, E>> {
    let mut billed = Vec::new();
    let mut refusal = None;
    let mut waits = None;
    for (product, choice) in choices {
        match choice {
            Ok(HolderChoice::Holder(holder)) => billed.push((product, holder)),
            Ok(HolderChoice::Waits) => waits = Some(product),
            Ok(HolderChoice::Counted) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    match (billed.len(), refusal) {
        (0, Some(error)) => Err(FeatureUnattributed::Refused(error)),
        (0, None) => Ok(waits.map_or(FeatureBearer::Nobody, FeatureBearer::Waits)),
        (1, _) => Ok(billed.pop().map_or(FeatureBearer::Nobody, |(product, holder)| {
            FeatureBearer::Holder(product, holder)
        })),
        _ => Err(FeatureUnattributed::Several(billed.into_iter().map(|(it, _)| it).collect())),
    }
}

/// Chooses the holder that usage of this hour is billed to, as far as that can be told without the ledger: which of the
/// last hours of a subscription that has ended are frozen, only the ledger knows.
pub fn holder_of_now(
    candidates: &[&Candidate],
    named: Option<&LicenseArn>,
    time: UsageTime,
) -> Result<HolderChoice, Unattributed> {
    let holders = match attribute(candidates, named, time)? {
        Attribution::BilledTo(holders) => holders,
        Attribution::Waits => return Ok(HolderChoice::Waits),
        Attribution::Counted => return Ok(HolderChoice::Counted),
    };
    let hour = ClockHour::of(time.now);
    let ends = holders.iter().filter_map(|it| it.tenure.ended_at().or(it.tenure.last_moment()));
    let ended = ends.max().unwrap_or(time.now);
    let bears = |tenure: Tenure| tenure == Tenure::Lasting || tenure.covers(hour);
    let first = holders.into_iter().find(|it| bears(it.tenure));
    first.map(|it| HolderChoice::Holder(it.holder)).ok_or(Unattributed::Ended(ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_product_bears_usage_or_a_licence_has_to_be_named() {
        let held = |arn: &str| Ok(HolderChoice::Holder(Holder::License(LicenseArn::new(arn))));
        let by = |product, arn: &str| {
            Ok(FeatureBearer::Holder(product, Holder::License(LicenseArn::new(arn))))
        };
        let rows = [
            (vec![], Ok(FeatureBearer::Nobody)),
            (vec![("a", held("l"))], by("a", "l")),
            (vec![("a", Err("over")), ("b", held("l"))], by("b", "l")),
            (vec![("a", Ok(HolderChoice::Waits)), ("b", held("l"))], by("b", "l")),
            (vec![("a", Ok(HolderChoice::Counted)), ("b", held("l"))], by("b", "l")),
            (vec![("a", Ok(HolderChoice::Counted))], Ok(FeatureBearer::Nobody)),
            (vec![("a", Ok(HolderChoice::Waits))], Ok(FeatureBearer::Waits("a"))),
            (
                vec![("a", Err("over")), ("b", Err("other"))],
                Err(FeatureUnattributed::Refused("over")),
            ),
            (
                vec![("a", Ok(HolderChoice::Waits)), ("b", Err("over"))],
                Err(FeatureUnattributed::Refused("over")),
            ),
            (
                vec![("a", held("l")), ("b", held("m"))],
                Err(FeatureUnattributed::Several(vec!["a", "b"])),
            ),
        ];
        for (choices, expected) in rows {
            let shown = format!("{choices:?}");
            assert_eq!(choose_product(choices), expected, "{shown}");
        }
    }
}
