//! Endings of what AWS does not list: by its date, by what was told, or by a second look.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::desired_terms::{follower_that_came, handed_over};
use super::licenses::HANDOVER;
use super::{
    Change, Decision, LicenseFacts, RENEWAL_CHECK, Situation, ever_more_seldom, look_again,
};
use crate::domain::notification::SubscriptionAction;
use crate::domain::{Holder, Status, Subscription, Terms};

/// Decides about a subscription that we hold and AWS does not list.
pub(super) fn decide_on_missing(
    situation: &Situation<'_>,
    holder: &Holder,
    held: &Subscription,
    decision: &mut Decision,
) {
    if situation.product.has_contracts() && situation.answer.is_none() {
        return;
    }
    let now = situation.now;
    let facts = held.terms.license_arn.as_ref().and_then(|arn| situation.license(arn));
    let mut terms = held.terms.clone();
    if let Some(after) = facts.and_then(|facts| gone_on(situation, facts, &terms, decision)) {
        terms = after;
    } else if let Some((status, at)) = certain_end(situation, holder, &terms) {
        if is_by_second_look(situation, holder, &terms) {
            decision.unlisted_endings += 1;
        }
        terms.status = status;
        terms.ended_at = Some(at);
        if status == Status::Expired && now.duration_since(at) < situation.patience.expiry_grace {
            look_again(decision, now, RENEWAL_CHECK);
        }
    } else {
        let since = *terms.missing_since.get_or_insert(now);
        let second_look = situation.patience.second_look;
        let due = since.saturating_add(second_look).unwrap_or(Timestamp::MAX);
        let wait = match due.duration_since(now) {
            // It is held back: AWS may list it again, a person may let it go.
            over if !over.is_positive() => ever_more_seldom(now.duration_since(since), second_look),
            left => left,
        };
        look_again(decision, now, wait);
    }
    if terms != held.terms {
        decision.changes.push(Change { id: Some(held.id.clone()), terms });
    }
}

/// Finds the status and the time of the end of something that AWS does not list, if that is certain.
pub(super) fn certain_end(
    situation: &Situation<'_>,
    holder: &Holder,
    terms: &Terms,
) -> Option<(Status, Timestamp)> {
    let now = situation.now;
    if let Some(known) = known_end(situation, holder, terms) {
        return Some(known);
    }
    let goes = terms
        .missing_since
        .is_some_and(|since| !situation.brake.is_held || situation.brake.is_confirmed(since));
    (goes && is_second_look(situation, terms)).then_some((Status::Canceled, now))
}

/// Finds the status and the time of the end of something by its date, or by what was told.
fn known_end(
    situation: &Situation<'_>,
    holder: &Holder,
    terms: &Terms,
) -> Option<(Status, Timestamp)> {
    let now = situation.now;
    if let Some(end) = terms.ends_at.filter(|end| *end <= now) {
        return Some((Status::Expired, end));
    }
    notified_end(situation, holder, terms).map(|at| (Status::Canceled, at.min(now)))
}

/// Reports whether nothing but a second look ends this, and no person has let it go.
fn is_by_second_look(situation: &Situation<'_>, holder: &Holder, terms: &Terms) -> bool {
    known_end(situation, holder, terms).is_none()
        && terms.missing_since.is_some_and(|since| !situation.brake.is_confirmed(since))
}

/// Reports whether an earlier answer missed it too, long enough ago.
fn is_second_look(situation: &Situation<'_>, terms: &Terms) -> bool {
    terms.missing_since.is_some_and(|since| {
        let due = since.saturating_add(situation.patience.second_look).unwrap_or(Timestamp::MAX);
        situation.now >= due
    })
}

/// Returns the time at which a notification said that this ended, if one did.
fn notified_end(situation: &Situation<'_>, holder: &Holder, terms: &Terms) -> Option<Timestamp> {
    let by_signal = situation
        .signals
        .get(holder)
        .filter(|signal| signal.action == SubscriptionAction::UnsubscribeSuccess)
        // The end of an earlier subscription says nothing about this one.
        .filter(|signal| terms.starts_at.is_none_or(|start| signal.at >= start))
        .map(|signal| signal.at);
    by_signal.or(departure(situation, terms))
}

/// Returns the time since which the buyer of what AWS still lists was told to be leaving.
pub(super) fn leaving_since(situation: &Situation<'_>, terms: &Terms) -> Option<Timestamp> {
    let signal = terms.holder.as_ref().and_then(|holder| situation.signals.get(holder));
    let by_signal = signal.filter(|signal| signal.action.is_end()).map(|signal| signal.at);
    by_signal.into_iter().chain(departure(situation, terms)).max()
}

fn departure(situation: &Situation<'_>, terms: &Terms) -> Option<Timestamp> {
    situation.license(terms.license_arn.as_ref()?)?.departure(situation.now)
}

/// Returns the terms of something that AWS does not list, if it went on under another licence, or is about to.
fn gone_on(
    situation: &Situation<'_>,
    facts: &LicenseFacts,
    terms: &Terms,
    decision: &mut Decision,
) -> Option<Terms> {
    let now = situation.now;
    if let Some(new) = follower_that_came(situation, facts) {
        return Some(handed_over(terms.clone(), Some(facts), new, now));
    }
    let until = facts.awaits_follower(now)?;
    look_again(decision, now, until.duration_since(now).min(RENEWAL_CHECK));
    Some(Terms {
        status: Status::Ending,
        ends_at: Some(until),
        missing_since: None,
        ended_at: None,
        ..terms.clone()
    })
}

/// Decides anew about what ended with its licence. That a licence's agreement goes on may be told after the licence's
/// end. What ended with it then stands as if it had been told before; of each dimension that is what ended last.
pub(super) fn reconsider_ended(
    situation: &Situation<'_>,
    mut ended: Vec<&Subscription>,
    decision: &mut Decision,
) {
    ended.sort_by_key(|held| Reverse(held.terms.ended_at));
    let mut dimensions = BTreeSet::new();
    ended.retain(|held| dimensions.insert(&held.terms.dimension));
    for held in ended {
        let after = after_its_licence(situation, &held.terms, decision);
        if let Some(terms) = after.filter(|after| *after != held.terms) {
            decision.changes.push(Change { id: Some(held.id.clone()), terms });
        }
    }
}

fn after_its_licence(
    situation: &Situation<'_>,
    terms: &Terms,
    decision: &mut Decision,
) -> Option<Terms> {
    let (Some(arn), None) = (&terms.license_arn, &terms.renewed_by) else { return None };
    let facts = situation.license(arn).filter(|_| situation.answer.is_some())?;
    let ended_at = terms.ended_at?;
    if let Some(new) = follower_that_came(situation, facts) {
        // AWS may have shown the change before any event told of it: it was taken for an end then.
        let changed_at = facts.over_since().into_iter().chain(new.live_since()).min()?;
        let with_it = changed_at.duration_since(ended_at) <= HANDOVER;
        return with_it.then(|| handed_over(terms.clone(), Some(facts), new, situation.now));
    }
    let over_since = facts.over_since()?;
    if ended_at < over_since && !has_just_expired(situation, terms) {
        return None;
    }
    gone_on(situation, facts, terms, decision).or_else(|| {
        let by_date = facts.is_continued() && terms.status == Status::Canceled;
        by_date.then(|| Terms { status: Status::Expired, ..terms.clone() })
    })
}

pub(super) fn has_just_expired(situation: &Situation<'_>, terms: &Terms) -> bool {
    terms.status == Status::Expired
        && terms
            .ended_at
            .is_some_and(|at| situation.now.duration_since(at) < situation.patience.expiry_grace)
}
