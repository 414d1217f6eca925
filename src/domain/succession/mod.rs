//! Successions: which of a customer's licences and legacy names count together.
//!
//! What a plan includes in a window, and what a hard limit counts, belongs to the customer and the product, whatever
//! bears it at AWS. So usage is counted by holder, and summed over the holders that succeed one another: a renewal, a
//! replacement, an agreement that began when another had ended, and the two forms of one purchase around a move to
//! licences. Agreements that overlap in time are purchases side by side; each has what its plan includes to itself.
//!
//! Pure, and a function of what is known, not of the order in which it was told. Billing and access checks both ask here.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::terms::{Anchor, EntitlementTerms, ResetPeriod};
use super::window::Window;
use super::{Holder, LicenseArn, ProductId, Status, SubscriptionId, Terms};
use crate::domain::aws_limits::FINAL_HOUR;

/// The shortest time that there is: a window that ends with a subscription does not run on after it.
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

/// The time for which something was held at AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The product.
    pub product: ProductId,
    /// The licence or buyer that it belongs to at AWS.
    pub holder: Holder,
    /// The licence, where it is known beside a legacy name.
    pub license: Option<LicenseArn>,
    /// When it began; when it was first known, if nobody told.
    pub since: Timestamp,
    /// When it began, as it was told.
    pub starts_at: Option<Timestamp>,
    /// When it ended, or is to end; none while nothing says so.
    pub until: Option<Timestamp>,
    /// The holder that it went on under.
    pub renewed_by: Option<Holder>,
    /// Set if it is not in force yet.
    pub pending: bool,
    /// Set if it never came into force.
    pub failed: bool,
}

impl Tenure {
    /// Returns the tenure of a subscription; none of one that was not bought at AWS.
    pub fn of(
        subscription: &SubscriptionId,
        product: Option<&ProductId>,
        terms: &Terms,
        first_known: Timestamp,
    ) -> Option<Self> {
        let announced = terms.ends_at.filter(|_| terms.status == Status::Ending);
        let until = terms.ended_at.or(announced);
        // What AWS lists no more is over since it was first missed, though that is believed only later.
        let until = until.into_iter().chain(terms.missing_since).min();
        let since = terms.starts_at.unwrap_or(first_known);
        Some(Self {
            subscription: subscription.clone(),
            product: product?.clone(),
            holder: terms.holder.clone()?,
            license: terms.license_arn.clone(),
            since,
            starts_at: terms.starts_at,
            until: until.map(|until| until.max(since)),
            renewed_by: terms.renewed_by.clone(),
            pending: terms.status == Status::Pending,
            failed: terms.status == Status::Failed,
        })
    }
}

/// Reports whether something begins when what has ended is over. Within the last hour, for which AWS takes usage of
/// what was cancelled, the buyer has left already.
fn follows(since: Timestamp, until: Option<Timestamp>) -> bool {
    until.is_some_and(|until| since >= until.saturating_sub(FINAL_HOUR).unwrap_or(Timestamp::MIN))
}

/// The holders of a customer that count together, product by product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Successions {
    tenures: Vec<Tenure>,
    chains: Vec<Chain>,
}

/// A chain of holders of one product that succeed one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The product.
    pub product: ProductId,
    /// The holders, the first to begin first. Each is in one chain.
    pub holders: Vec<Holder>,
}

impl Successions {
    /// Finds which tenures of one customer succeed which.
    pub fn of(mut tenures: Vec<Tenure>) -> Self {
        tenures.sort_by(|one, other| {
            let key = |it: &Tenure| (it.since, it.until.unwrap_or(Timestamp::MAX));
            let id = |it: &Tenure| (it.holder.clone(), it.subscription.clone());
            key(one).cmp(&key(other)).then_with(|| id(one).cmp(&id(other)))
        });
        let mut products: BTreeMap<&ProductId, Vec<Unit<'_>>> = BTreeMap::new();
        for tenure in &tenures {
            let units = products.entry(&tenure.product).or_default();
            match units.iter_mut().find(|unit| unit.holder == &tenure.holder) {
                Some(unit) => unit.tenures.push(tenure),
                None => units.push(Unit { holder: &tenure.holder, tenures: vec![tenure] }),
            }
        }
        let mut chains = Vec::new();
        for (product, units) in products {
            for chain in chained(purchases(units)) {
                let mut units: Vec<Unit<'_>> = chain.into_iter().flat_map(|it| it.units).collect();
                units.sort_by_key(|unit| (unit.span(), unit.holder));
                let holders = units.iter().map(|unit| unit.holder.clone()).collect();
                chains.push(Chain { product: product.clone(), holders });
            }
        }
        Self { tenures, chains }
    }

    /// Returns every chain.
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// Returns the chain that a holder of a product belongs to; none of one that was never held.
    pub fn chain_of(&self, product: &ProductId, holder: &Holder) -> Option<&Chain> {
        self.chains.iter().find(|it| it.product == *product && it.holders.contains(holder))
    }

    /// Returns the windows that usage under a subscription counts in. Those that run from a subscription's start run
    /// on when another takes over within one of them: whoever leaves and comes back has neither a window cut short nor
    /// a second one for the same time. Who comes back after the running window has ended begins anew.
    pub fn window(
        &self,
        subscription: &SubscriptionId,
        terms: &EntitlementTerms,
        starts_at: Option<Timestamp>,
    ) -> Window {
        let place = self.tenures.iter().rposition(|it| it.subscription == *subscription);
        let anchor = match (terms.reset, terms.anchor, place) {
            (Some(period), Anchor::Subscription, Some(place)) => self.anchor(place, period),
            _ => starts_at,
        };
        Window::of(terms, anchor)
    }

    fn anchor(&self, place: usize, period: ResetPeriod) -> Option<Timestamp> {
        let tenure = &self.tenures[place];
        let Some(before) = self.predecessor(place) else { return tenure.starts_at };
        let Some(anchor) = self.anchor(before, period) else { return tenure.starts_at };
        let last = self.tenures[before].until.map_or(tenure.since, |it| it.min(tenure.since));
        let last = last.saturating_sub(MOMENT).unwrap_or(Timestamp::MIN);
        let running = Window::From(anchor, period).around(last);
        if running.end.is_none_or(|end| tenure.since < end) {
            Some(anchor)
        } else {
            tenure.starts_at
        }
    }

    /// Finds the tenure that was taken over: of the earlier ones of the chain, that which ended last. What is held
    /// beside it under the same holder is no predecessor.
    fn predecessor(&self, place: usize) -> Option<usize> {
        let tenure = &self.tenures[place];
        let chain = self.chain_of(&tenure.product, &tenure.holder)?;
        let is_before = |it: &Tenure| {
            it.product == tenure.product
                && !it.failed
                && if it.holder == tenure.holder {
                    follows(tenure.since, it.until)
                } else {
                    chain.holders.contains(&it.holder)
                }
        };
        let earlier = self.tenures[..place].iter().enumerate().filter(|(_, it)| is_before(it));
        earlier
            .max_by_key(|(place, it)| (it.until.unwrap_or(Timestamp::MAX), *place))
            .map(|(place, _)| place)
    }
}

/// A holder with all of its tenures of one product.
struct Unit<'a> {
    holder: &'a Holder,
    tenures: Vec<&'a Tenure>,
}

/// The time from the first beginning to the last end; `MAX` while there is none.
type Span = (Timestamp, Timestamp);

/// Returns the end of a span, if there is one.
fn over(until: Timestamp) -> Option<Timestamp> {
    (until < Timestamp::MAX).then_some(until)
}

impl Unit<'_> {
    fn span(&self) -> Span {
        span(self.tenures.iter().copied())
    }

    fn failed(&self) -> bool {
        self.tenures.iter().all(|it| it.failed)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ((since, until), (others_since, others_until)) = (self.span(), other.span());
        !follows(since, over(others_until)) && !follows(others_since, over(until))
    }

    /// Reports whether both are the same purchase, or this one goes on as the other.
    fn goes_on_as(&self, other: &Self) -> bool {
        let renewed = |it: &&Tenure| it.renewed_by.as_ref() == Some(other.holder);
        // A customer is one legacy buyer, by whatever name.
        let one_buyer = self.holder.is_legacy() && other.holder.is_legacy();
        let named = |it: &&Tenure| match other.holder {
            Holder::License(arn) => self.holder.is_legacy() && it.license.as_ref() == Some(arn),
            Holder::Buyer(_) | Holder::Account(_) => false,
        };
        one_buyer || self.tenures.iter().any(|it| renewed(it) || named(it))
    }
}

fn span<'a>(tenures: impl Iterator<Item = &'a Tenure> + Clone) -> Span {
    // What never came into force was held for no time, unless there is nothing else.
    let all_failed = tenures.clone().all(|it| it.failed);
    tenures
        .filter(|it| all_failed || !it.failed)
        .map(|it| (it.since, it.until.unwrap_or(Timestamp::MAX)))
        .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
        .unwrap_or((Timestamp::MIN, Timestamp::MAX))
}

/// Holders that are one purchase, or were told to succeed one another.
#[derive(Default)]
struct Purchase<'a> {
    units: Vec<Unit<'a>>,
}

impl<'a> Purchase<'a> {
    fn tenures(&self) -> impl Iterator<Item = &'a Tenure> + Clone {
        self.units.iter().flat_map(|unit| unit.tenures.iter().copied())
    }

    fn pending(&self) -> bool {
        self.tenures().all(|it| it.pending || it.failed)
    }

    fn failed(&self) -> bool {
        self.tenures().all(|it| it.failed)
    }
}

/// Groups the holders that belong together by more than their dates.
fn purchases(units: Vec<Unit<'_>>) -> Vec<Purchase<'_>> {
    let mut groups: Vec<usize> = (0..units.len()).collect();
    let join = |groups: &mut Vec<usize>, one: usize, other: usize| {
        let (kept, gone) = (groups[one].min(groups[other]), groups[one].max(groups[other]));
        groups.iter_mut().filter(|it| **it == gone).for_each(|it| *it = kept);
    };
    for (one, unit) in units.iter().enumerate() {
        for (other, with) in units.iter().enumerate() {
            if one != other && unit.goes_on_as(with) {
                join(&mut groups, one, other);
            }
        }
    }
    // A legacy buyer has one purchase of a product at a time, so a licence beside it is the same one in the other form.
    // Of several side by side that is the first, unless another is known to be; what never came into force was taken for
    // a purchase of its own by mistake.
    if let Some(legacy) = units.iter().position(|it| it.holder.is_legacy() && !it.failed()) {
        let beside =
            |it: &usize| !units[*it].holder.is_legacy() && units[*it].overlaps(&units[legacy]);
        let mut beside: Vec<usize> = (0..units.len()).filter(beside).collect();
        beside.sort_by_key(|it| (units[*it].failed(), units[*it].span(), units[*it].holder));
        for licence in beside {
            let is_another = |(other, unit): (usize, &Unit<'_>)| {
                groups[other] == groups[legacy]
                    && !unit.holder.is_legacy()
                    && !unit.failed()
                    && unit.overlaps(&units[licence])
            };
            if units[licence].failed() || !units.iter().enumerate().any(is_another) {
                join(&mut groups, licence, legacy);
            }
        }
    }
    let mut purchases: BTreeMap<usize, Purchase<'_>> = BTreeMap::new();
    for (unit, group) in units.into_iter().zip(groups) {
        purchases.entry(group).or_default().units.push(unit);
    }
    purchases.into_values().collect()
}

/// Has each purchase take over from the one that ended last before it began, if that is nobody else's yet. There are as
/// many chains as purchases were ever held side by side.
fn chained(mut purchases: Vec<Purchase<'_>>) -> Vec<Vec<Purchase<'_>>> {
    // What is not in force yet stands in nobody's way.
    purchases.sort_by_key(|it| {
        let first = it.units.iter().map(|unit| unit.holder).min();
        (it.failed(), it.pending(), span(it.tenures()), first)
    });
    let mut chains: Vec<(Timestamp, Vec<Purchase<'_>>)> = Vec::new();
    for purchase in purchases {
        let (since, until) = span(purchase.tenures());
        let free = chains
            .iter_mut()
            .enumerate()
            .filter(|(_, (end, _))| !purchase.failed() && follows(since, over(*end)))
            .max_by_key(|(place, (end, _))| (*end, Reverse(*place)));
        match free {
            Some((_, (end, chain))) => {
                *end = until.max(*end);
                chain.push(purchase);
            }
            None => chains.push((until, vec![purchase])),
        }
    }
    chains.into_iter().map(|(_, chain)| chain).collect()
}
