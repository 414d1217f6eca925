//! The reconciliation decision: from what we hold, what AWS says and what notifications said, to what should be.
//!
//! Pure and order-free. Notifications enter as the newest fact of each kind, not as a sequence, so losing,
//! repeating or reordering them cannot change the outcome. Access ends for four reasons only: AWS no longer
//! lists the grant and its term is over, or a notification said that it ended, or a second look agrees; or
//! the term of what AWS still lists is over by more than the grace.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

mod brake;
mod desired_terms;
mod endings;
mod licenses;
mod signals;
#[cfg(test)]
mod tests;

pub use brake::{Brake, COUNTED_FOR, MaxEndings, Unlisted};
use desired_terms::{desired_terms, follower_that_came};
use endings::{certain_end, decide_on_missing, has_just_expired, leaving_since, reconsider_ended};
pub use licenses::{AgreementFacts, LicenseFacts, SETTLING};
pub use signals::{SubscriptionMessage, SubscriptionSignal};

use super::ledger::is_licensed;
use super::{
    ClockHour, CustomerIdentifier, DimensionKey, Grant, Holder, LicenseArn, PlanId, Status,
    Subscription, SubscriptionId, Terms,
};

/// The interval at which AWS is asked again about a grant whose date has passed: a renewal may show a little late.
const RENEWAL_CHECK: SignedDuration = SignedDuration::from_mins(5);

/// The time after it was told within which a purchase may show in AWS's answer.
const PROVISIONING: SignedDuration = SignedDuration::from_hours(24);

/// The longest wait until AWS is asked again about what does not show.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// The patience with AWS's answers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The time from an answer that misses a grant until AWS is asked again, before access ends.
    pub second_look: SignedDuration,
    /// The time for which a grant that AWS still lists is kept beyond its date.
    pub expiry_grace: SignedDuration,
    /// The most subscriptions of a product that may end within a day because AWS lists them no more.
    pub max_endings: MaxEndings,
}

/// The meaning of a product's dimensions.
#[derive(Clone, Debug, Default)]
pub struct ProductTerms {
    /// The entitled dimensions and the plans that they are mapped to.
    pub entitled: BTreeMap<DimensionKey, Option<PlanId>>,
    /// The plan of those who pay as they go.
    pub usage_plan: Option<PlanId>,
    /// Set if AWS has given none of its buyers a legacy name. Where it has, a licence that only the Agreement API tells
    /// of may be that of a buyer whom we hold by the other name.
    pub by_license: bool,
    /// The hour from which on they are metered by licence all the same, where the seller has set one.
    pub licensed_from: Option<ClockHour>,
}

impl ProductTerms {
    /// Reports whether contracts are sold, so that `GetEntitlements` tells who holds what.
    pub fn has_contracts(&self) -> bool {
        !self.entitled.is_empty()
    }
}

/// The situation of a buyer: everything that the decision rests on.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The time of the decision.
    pub now: Timestamp,
    /// The patience with AWS's answers.
    pub patience: Patience,
    /// The meaning of the product's dimensions.
    pub product: &'a ProductTerms,
    /// The subscriptions that we hold for this buyer and product, ended ones included.
    pub held: &'a [Subscription],
    /// The rows that AWS lists for this buyer; `None` where no API can tell.
    pub answer: Option<&'a [Grant]>,
    /// The legacy names of this buyer, where no API tells what is held under them.
    pub names: &'a BTreeSet<CustomerIdentifier>,
    /// Set if the seller has named the buyer: whom they know by account has what the account bought.
    pub claimed: bool,
    /// The signals of subscriptions, by legacy buyer.
    pub signals: &'a BTreeMap<Holder, SubscriptionSignal>,
    /// The newest facts of each of the buyer's licences.
    pub licenses: &'a [LicenseFacts],
    /// The time at which a notification last said that a legacy buyer's entitlements changed.
    pub told_at: Option<Timestamp>,
    /// The brake, which says whether what AWS lists no more ends by that.
    pub brake: Brake,
}

impl Situation<'_> {
    fn license(&self, arn: &LicenseArn) -> Option<&LicenseFacts> {
        self.licenses.iter().find(|facts| facts.license_arn == *arn)
    }

    /// Reports whether the product is sold by licence alone by now.
    fn is_by_license(&self) -> bool {
        self.product.by_license || is_licensed(ClockHour::of(self.now), self.product.licensed_from)
    }
}

/// The decision: what should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Subscriptions to write, only those that differ from what is held.
    pub changes: Vec<Change>,
    /// The time at which AWS should be asked again without being told to.
    pub look_again_at: Option<Timestamp>,
    /// The number of endings by nothing but that AWS lists something no more, and that no person has let go.
    pub unlisted_endings: usize,
}

/// One subscription to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The subscription that changes; none for a new one.
    pub id: Option<SubscriptionId>,
    /// The terms that it should have.
    pub terms: Terms,
}

/// Decides what the subscriptions of one buyer should be.
pub fn decide(situation: &Situation<'_>) -> Decision {
    let mut desired: BTreeMap<Holder, Vec<Terms>> = BTreeMap::new();
    for terms in desired_terms(situation) {
        if is_of_unknown_origin(situation, &terms) {
            continue;
        }
        if let Some(holder) = terms.holder.clone() {
            desired.entry(holder).or_default().push(terms);
        }
    }
    move_to_listed_holder(situation, &mut desired);
    let mut holders: BTreeSet<Holder> = desired.keys().cloned().collect();
    holders.extend(situation.held.iter().filter_map(|held| held.terms.holder.clone()));

    let mut decision = Decision::default();
    for holder in holders {
        let wanted = desired.remove(&holder).unwrap_or_default();
        let held: Vec<&Subscription> = situation
            .held
            .iter()
            .filter(|held| held.terms.holder.as_ref() == Some(&holder))
            .collect();
        match_holder(situation, &holder, wanted, &held, &mut decision);
    }
    await_provisioning(situation, &mut decision);
    decision
}

/// Moves a sale that AWS lists under another name than we hold it by to that name. One licence is one sale: it has
/// neither ended nor been bought again.
fn move_to_listed_holder(situation: &Situation<'_>, desired: &mut BTreeMap<Holder, Vec<Terms>>) {
    if !situation.product.has_contracts() {
        return;
    }
    let mut over: Vec<(Holder, Terms)> = Vec::new();
    for held in situation.held.iter().map(|held| &held.terms) {
        let (Some(from), Some(license), None) = (&held.holder, &held.license_arn, held.ended_at)
        else {
            continue;
        };
        let is_of_it = |terms: &Terms| terms.license_arn.as_ref() == Some(license);
        if desired.get(from).is_some_and(|listed| listed.iter().any(is_of_it)) {
            continue;
        }
        let listed = desired.iter_mut().find(|(_, listed)| listed.iter().any(is_of_it));
        let Some((to, listed)) = listed else { continue };
        for terms in listed.iter_mut().filter(|it| it.dimension == held.dimension) {
            terms.starts_at = terms.starts_at.or(held.starts_at);
        }
        let gone = Terms {
            status: Status::Expired,
            missing_since: None,
            ended_at: Some(situation.now),
            renewed_by: Some(to.clone()),
            ..held.clone()
        };
        over.push((from.clone(), gone));
    }
    for (from, gone) in over {
        desired.entry(from).or_default().push(gone);
    }
}

/// Reports whether AWS lists a licence of which nobody has told where it comes from, while one that we hold has just
/// gone missing. It may be the other's renewal, which would be two plans at once: what is told of it will say, or else
/// the second look at the missing one, which keeps its plan until then.
fn is_of_unknown_origin(situation: &Situation<'_>, terms: &Terms) -> bool {
    let (Some(arn), Some(grants)) = (&terms.license_arn, situation.answer) else { return false };
    let holder = terms.holder.as_ref();
    if !situation.product.has_contracts()
        || situation.license(arn).is_some_and(LicenseFacts::has_origin)
        || situation.held.iter().any(|held| held.terms.holder.as_ref() == holder)
    {
        return false;
    }
    let is_missing = |held: &Subscription| {
        let (license, holder) = (&held.terms.license_arn, &held.terms.holder);
        let listed = grants.iter().any(|grant| grant.license_arn == *license);
        let ended =
            || holder.as_ref().is_none_or(|it| certain_end(situation, it, &held.terms).is_some());
        let went_on = || {
            let facts = license.as_ref().and_then(|arn| situation.license(arn));
            facts.and_then(|facts| follower_that_came(situation, facts)).is_some()
        };
        license.is_some() && held.terms.ended_at.is_none() && !listed && !ended() && !went_on()
    };
    situation.held.iter().any(is_missing)
}

/// Plans to ask AWS again, ever more seldom, about a purchase that was told before AWS lists it.
fn await_provisioning(situation: &Situation<'_>, decision: &mut Decision) {
    let Some(grants) = situation.answer.filter(|_| situation.product.has_contracts()) else {
        return;
    };
    let unlisted = situation.licenses.iter().filter(|facts| {
        facts.departure(situation.now).is_none()
            && !grants.iter().any(|grant| grant.license_arn.as_ref() == Some(&facts.license_arn))
    });
    let told = unlisted.filter_map(|facts| facts.change.map(|(_, at)| at));
    let told = told.chain(situation.told_at.filter(|_| grants.is_empty())).max();
    if let Some(age) = told.map(|at| situation.now.duration_since(at))
        && age < PROVISIONING
    {
        let wait = ever_more_seldom(age, SignedDuration::from_secs(1));
        look_again(decision, situation.now, wait);
    }
}

/// Pairs what one holder should have with what is held, and ends what is left.
fn match_holder(
    situation: &Situation<'_>,
    holder: &Holder,
    mut wanted: Vec<Terms>,
    held: &[&Subscription],
    decision: &mut Decision,
) {
    let (mut live, mut ended): (Vec<&Subscription>, Vec<&Subscription>) =
        held.iter().copied().partition(|held| held.terms.ended_at.is_none());

    let mut pairs: Vec<(Option<&Subscription>, Terms)> = Vec::new();
    pair_by_dimension(&mut wanted, &mut live, &mut pairs);
    // What AWS lists no more and what it lists newly, within one holder, is an upgrade, also to what was held before;
    // of several that come, such a one may as well have come back. With AWS's word missing altogether nothing is
    // paired: that is an end, not a change.
    let was_held = |terms: &Terms| ended.iter().any(|held| held.terms.dimension == terms.dimension);
    wanted.sort_by_key(was_held);
    live.sort_by(|a, b| a.terms.dimension.cmp(&b.terms.dimension));
    let upgraded = wanted.len().min(live.len());
    pairs.extend(live.drain(..upgraded).map(Some).zip(wanted.drain(..upgraded)));
    pair_by_dimension(&mut wanted, &mut ended, &mut pairs);
    pairs.extend(wanted.into_iter().map(|terms| (None, terms)));
    let holds_nothing = pairs.is_empty() && live.is_empty();
    for (held, terms) in pairs {
        propose(situation, held, terms, decision);
    }
    for held in live {
        decide_on_missing(situation, holder, held, decision);
    }
    if !situation.product.has_contracts() {
        return;
    }
    // A contract that ended by date may have been renewed a moment ago.
    if ended.iter().any(|held| has_just_expired(situation, &held.terms)) {
        look_again(decision, situation.now, RENEWAL_CHECK);
    }
    if holds_nothing {
        reconsider_ended(situation, ended, decision);
    }
}

/// Pairs what is wanted with what is held of the same dimension, which is the same subscription.
fn pair_by_dimension<'a>(
    wanted: &mut Vec<Terms>,
    pool: &mut Vec<&'a Subscription>,
    pairs: &mut Vec<(Option<&'a Subscription>, Terms)>,
) {
    wanted.retain(|terms| {
        let same = pool.iter().position(|held| held.terms.dimension == terms.dimension);
        pairs.extend(same.map(|at| (Some(pool.remove(at)), terms.clone())));
        same.is_none()
    });
}

fn propose(
    situation: &Situation<'_>,
    held: Option<&Subscription>,
    mut terms: Terms,
    decision: &mut Decision,
) {
    if let Some(held) = held {
        let revived = held.terms.ended_at.is_some() && terms.ended_at.is_none();
        terms.account_id = terms.account_id.or_else(|| held.terms.account_id.clone());
        terms.agreement_id = terms.agreement_id.or_else(|| held.terms.agreement_id.clone());
        if !revived {
            terms.starts_at = terms.starts_at.or(held.terms.starts_at);
        }
    }
    if terms.ended_at.is_none() {
        terms.starts_at = terms.starts_at.or(Some(situation.now));
        match terms.ends_at {
            Some(end) if end > situation.now => {
                let wait = end.duration_since(situation.now);
                look_again(decision, situation.now, wait);
            }
            Some(_) => look_again(decision, situation.now, RENEWAL_CHECK),
            None => {}
        }
        if let Some(start) = terms.starts_at.filter(|start| *start > situation.now) {
            look_again(decision, situation.now, start.duration_since(situation.now));
        }
        // It was told to end and AWS still lists it: see whether that has come true.
        if situation.product.has_contracts()
            && terms.status == Status::Ending
            && let Some(since) = leaving_since(situation, &terms)
        {
            let wait = ever_more_seldom(situation.now.duration_since(since), RENEWAL_CHECK);
            look_again(decision, situation.now, wait);
        }
    }
    if held.is_none_or(|held| held.terms != terms) {
        decision.changes.push(Change { id: held.map(|held| held.id.clone()), terms });
    }
}

/// Returns the wait until AWS is asked again about what was told so long ago and does not show.
fn ever_more_seldom(age: SignedDuration, shortest: SignedDuration) -> SignedDuration {
    (age / 2).clamp(shortest.min(LONGEST_WAIT), LONGEST_WAIT)
}

fn look_again(decision: &mut Decision, now: Timestamp, after: SignedDuration) {
    // Never at once: a decision that asks for itself again must not spin.
    let wait = after.max(SignedDuration::from_millis(1));
    let at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    decision.look_again_at = Some(decision.look_again_at.map_or(at, |earlier| earlier.min(at)));
}
