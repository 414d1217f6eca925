//! The terms of subscription that each holder should have, by AWS's rows where it lists them, else by the newest
//! notifications. The terms on which a plan grants a feature are `domain/terms.rs`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::prelude::ToPrimitive;

use super::licenses::{Standing, follower};
use super::{AgreementFacts, LicenseFacts, Situation, SubscriptionSignal};
use crate::domain::aws_limits::FINAL_HOUR;
use crate::domain::notification::SubscriptionAction;
use crate::domain::{DimensionKey, Grant, GrantValue, Holder, LicenseArn, Quantity, Status, Terms};

pub(super) fn desired_terms(situation: &Situation<'_>) -> Vec<Terms> {
    if situation.product.has_contracts() {
        contract_terms(situation)
    } else {
        usage_terms(situation)
    }
}

/// Finds the follower of a licence, once it has come into force. That it has ended since brings nothing back: the buyer
/// left under the follower.
pub(super) fn follower_that_came<'a>(
    situation: &'a Situation<'_>,
    facts: &LicenseFacts,
) -> Option<&'a LicenseFacts> {
    follower(situation.licenses, &facts.license_arn)
        .filter(|new| is_in_force(situation, new) || has_been_in_force(situation, new))
}

fn is_in_force(situation: &Situation<'_>, facts: &LicenseFacts) -> bool {
    if situation.product.has_contracts() {
        let mut rows = situation.answer.unwrap_or_default().iter();
        return rows.any(|grant| {
            grant.license_arn.as_ref() == Some(&facts.license_arn) && holds_something(&grant.value)
        });
    }
    facts.standing() == Some(Standing::Live) && !begins_later(facts, situation.now)
}

/// Reports whether it was held, or is over after it had begun.
fn has_been_in_force(situation: &Situation<'_>, facts: &LicenseFacts) -> bool {
    let held = situation.product.has_contracts() && is_held(situation, facts);
    // Of the licence of an agreement that came and went unheard nothing may have been told.
    let over = if facts.standing().is_none() { facts.over_since() } else { facts.over_at() };
    held || over.is_some_and(|at| !begins_later(facts, at))
}

fn begins_later(facts: &LicenseFacts, now: Timestamp) -> bool {
    facts.agreement.as_ref().and_then(|it| it.starts_at).is_some_and(|start| start > now)
}

/// Returns the terms of what has gone over to the licence that follows: over itself, so that nobody has two plans at
/// once.
pub(super) fn handed_over(
    terms: Terms,
    old: Option<&LicenseFacts>,
    new: &LicenseFacts,
    now: Timestamp,
) -> Terms {
    let over = old.and_then(LicenseFacts::over_at);
    let since = [terms.ended_at, over, new.live_since()].into_iter().flatten().min();
    Terms {
        status: Status::Expired,
        missing_since: None,
        ended_at: Some(since.unwrap_or(now).min(now)),
        renewed_by: Some(Holder::License(new.license_arn.clone())),
        ..terms
    }
}

/// Returns the terms of pay-as-you-go sales: the newest words about legacy buyers and licences. One sale may be told in
/// both forms.
fn usage_terms(situation: &Situation<'_>) -> Vec<Terms> {
    let counts = |facts: &LicenseFacts| {
        facts.is_told()
            || situation.is_by_license()
            || (situation.claimed && situation.names.is_empty())
    };
    let (sold, untold): (Vec<&LicenseFacts>, Vec<_>) =
        situation.licenses.iter().partition(|facts| counts(facts));
    let mut licensed: BTreeMap<&LicenseArn, Terms> = sold
        .into_iter()
        .filter_map(|facts| Some((&facts.license_arn, licensed_terms(situation, facts)?)))
        .collect();
    let mut all = Vec::new();
    for (holder, signal) in situation.signals {
        let mut terms = signalled_terms(situation, holder, signal);
        if let Some(facts) = license_behind(situation) {
            let known = by_name(situation, facts, holder, &mut licensed, &mut all);
            terms = merged_terms(terms, signal, facts, known);
        }
        all.push(terms);
    }
    if let Some((holder, facts)) = sale_by_name(situation, &untold) {
        let known = by_name(situation, facts, &holder, &mut licensed, &mut all);
        all.extend(known.map(|it| Terms { holder: Some(holder), ..it }));
    }
    all.extend(licensed.into_values());
    let named: Vec<Holder> = all.iter().filter_map(|terms| terms.holder.clone()).collect();
    let untold = untold.into_iter().filter_map(|facts| withdrawn_terms(situation, facts));
    all.extend(untold.filter(|it| it.holder.as_ref().is_none_or(|it| !named.contains(it))));
    all
}

/// Returns what is known of a sale by its licence. What was taken for a sale by licence goes on under the buyer's name:
/// it never was another one.
fn by_name<'a>(
    situation: &Situation<'_>,
    facts: &'a LicenseFacts,
    holder: &Holder,
    licensed: &mut BTreeMap<&'a LicenseArn, Terms>,
    all: &mut Vec<Terms>,
) -> Option<Terms> {
    let known = licensed.remove(&facts.license_arn);
    let known = known.or_else(|| licensed_terms(situation, facts))?;
    if is_held(situation, facts) {
        let since = known.ended_at.or(known.starts_at).unwrap_or(situation.now);
        all.push(Terms {
            status: Status::Expired,
            ended_at: Some(since.min(situation.now)),
            renewed_by: Some(holder.clone()),
            ..known.clone()
        });
    }
    Some(known)
}

/// Finds the sale to a legacy buyer of whom no message has come, and of whose licence only the Agreement API tells. It
/// keeps the name when more is told.
fn sale_by_name<'a>(
    situation: &'a Situation<'_>,
    untold: &[&LicenseFacts],
) -> Option<(Holder, &'a LicenseFacts)> {
    let name = situation.names.first().filter(|_| situation.signals.is_empty())?;
    let facts = license_behind(situation)?;
    let holder = Holder::Buyer(name.clone());
    let held = situation.held.iter().map(|held| &held.terms).any(|terms| {
        terms.holder.as_ref() == Some(&holder)
            && terms.license_arn.as_ref() == Some(&facts.license_arn)
    });
    (held || untold.contains(&facts)).then_some((holder, facts))
}

/// Ends the subscription of a licence that only the Agreement API tells of, as the sale may be held by a legacy name as
/// well: two subscriptions for one sale, metered in both forms. Until AWS gave a buyer a legacy name, the product may
/// have been one that is sold by licence.
fn withdrawn_terms(situation: &Situation<'_>, facts: &LicenseFacts) -> Option<Terms> {
    let holder = Holder::License(facts.license_arn.clone());
    let held = situation
        .held
        .iter()
        .map(|held| &held.terms)
        .find(|terms| terms.holder.as_ref() == Some(&holder) && terms.ended_at.is_none())?;
    let over = licensed_terms(situation, facts).filter(|terms| terms.ended_at.is_some());
    Some(over.unwrap_or_else(|| Terms {
        status: Status::Failed,
        ends_at: None,
        missing_since: None,
        ended_at: Some(situation.now),
        ..held.clone()
    }))
}

/// Reports whether a subscription of its own stands on this licence.
fn is_held(situation: &Situation<'_>, facts: &LicenseFacts) -> bool {
    let holder = Holder::License(facts.license_arn.clone());
    situation.held.iter().any(|held| held.terms.holder.as_ref() == Some(&holder))
}

/// Finds the licence of a legacy buyer's sale: of those of the account, the first that lives, else the one that ended
/// last.
fn license_behind<'a>(situation: &'a Situation<'_>) -> Option<&'a LicenseFacts> {
    let sold = situation.licenses.iter().filter(|facts| facts.standing().is_some());
    let sold = sold.filter(|facts| follower_that_came(situation, facts).is_none());
    sold.min_by_key(|facts| {
        // Also where only the agreement's end is known, as the Agreement API tells it.
        let over = facts.departure(situation.now);
        (over.is_some(), over.map(std::cmp::Reverse), facts.live_since(), &facts.license_arn)
    })
}

/// Merges the terms of one sale that is told by SNS and by licence: the newest word on its end counts, or on its coming
/// back.
fn merged_terms(
    by_signal: Terms,
    signal: &SubscriptionSignal,
    facts: &LicenseFacts,
    by_license: Option<Terms>,
) -> Terms {
    let mut terms = Terms {
        account_id: facts.account_id.clone(),
        license_arn: Some(facts.license_arn.clone()),
        agreement_id: facts.agreement.as_ref().map(|agreement| agreement.agreement_id.clone()),
        ..by_signal
    };
    let Some(by_license) = by_license else { return terms };
    let left = facts.agreement.as_ref().and_then(AgreementFacts::departed_at);
    let told_at = facts.over_at().into_iter().chain(left).min();
    // Bought anew since, which SNS has not told or will not.
    let returned = by_license.status.is_live() && facts.live_since() > Some(signal.at);
    let returned = returned && signal.action != SubscriptionAction::Success;
    if returned || told_at.is_some_and(|at| at > signal.at) {
        terms.status = by_license.status;
        terms.ends_at = by_license.ends_at;
        terms.ended_at = by_license.ended_at;
    }
    if returned {
        terms.starts_at = by_license.starts_at;
    }
    terms
}

/// Returns the terms of contract products: AWS's rows, merged by holder and dimension.
fn contract_terms(situation: &Situation<'_>) -> Vec<Terms> {
    let mut merged: BTreeMap<(Holder, DimensionKey), &Grant> = BTreeMap::new();
    for grant in situation.answer.unwrap_or_default() {
        let Some(holder) = Holder::of_grant(grant).filter(|_| holds_something(&grant.value)) else {
            continue;
        };
        let over = grant.expires_at.is_some_and(|at| {
            situation.now
                >= at.saturating_add(situation.patience.expiry_grace).unwrap_or(Timestamp::MAX)
        });
        if over {
            continue;
        }
        // Around a renewal AWS may list the old term and the new one: the one that lasts longer counts.
        let slot = merged.entry((holder, grant.dimension.clone())).or_insert(grant);
        if lasts_longer(grant, slot) {
            *slot = grant;
        }
    }
    merged.into_iter().map(|((holder, _), grant)| granted_terms(situation, holder, grant)).collect()
}

fn holds_something(value: &GrantValue) -> bool {
    match value {
        GrantValue::Integer(count) => *count > 0,
        GrantValue::Boolean(had) => *had,
        GrantValue::Decimal(amount) => !amount.is_zero() && !amount.is_sign_negative(),
        GrantValue::Text(_) => true,
    }
}

fn lasts_longer(grant: &Grant, than: &Grant) -> bool {
    let end = |grant: &Grant| grant.expires_at.unwrap_or(Timestamp::MAX);
    (end(grant), bought(&grant.value)) > (end(than), bought(&than.value))
}

fn bought(value: &GrantValue) -> Option<Quantity> {
    match value {
        GrantValue::Integer(count) => u32::try_from(*count).ok().map(Quantity::from_units),
        GrantValue::Decimal(amount) => amount
            .checked_mul(1_000_000.into())
            .and_then(|millionths| millionths.to_i64())
            .and_then(Quantity::from_millionths),
        GrantValue::Boolean(_) | GrantValue::Text(_) => None,
    }
}

fn granted_terms(situation: &Situation<'_>, holder: Holder, grant: &Grant) -> Terms {
    let told = situation.signals.get(&holder);
    // Of an earlier contract nothing counts for this one.
    let signal = told.filter(|signal| !is_of_earlier(situation, &holder, signal));
    let facts = grant.license_arn.as_ref().and_then(|arn| situation.license(arn));
    let agreement = facts.and_then(|facts| facts.agreement.as_ref());
    let leaving = facts.is_some_and(|facts| facts.departure(situation.now).is_some())
        || signal.is_some_and(|signal| signal.action.is_end())
        || grant.expires_at.is_some_and(|at| at <= situation.now);
    let trial = signal.is_some_and(|signal| signal.free_trial);
    let terms = Terms {
        account_id: grant.account_id.clone(),
        license_arn: grant.license_arn.clone(),
        agreement_id: agreement.map(|agreement| agreement.agreement_id.clone()),
        plan_id: situation.product.entitled.get(&grant.dimension).cloned().flatten(),
        dimension: Some(grant.dimension.clone()),
        quantity: bought(&grant.value),
        status: match (leaving, trial) {
            (true, _) => Status::Ending,
            (false, true) => Status::Trialing,
            (false, false) => Status::Active,
        },
        starts_at: agreement
            .and_then(|agreement| agreement.starts_at)
            .or_else(|| signal.and_then(|signal| signal.begun_at))
            .or_else(|| told_anew(situation, &holder)),
        ends_at: grant.expires_at,
        missing_since: None,
        ended_at: None,
        renewed_by: None,
        holder: Some(holder),
    };
    // A buyer whom AWS still names the legacy way keeps the subscription beneath which the licence changes.
    let by_license = terms.holder.as_ref().is_some_and(|holder| !holder.is_legacy());
    // What AWS lists is held, unless it lists the follower as well.
    let follower = facts.filter(|_| by_license).and_then(|facts| {
        follower(situation.licenses, &facts.license_arn).filter(|new| is_in_force(situation, new))
    });
    match follower {
        Some(new) => handed_over(terms, facts, new, situation.now),
        None => terms,
    }
}

/// Reports whether the newest message about a buyer's subscription is the end of an earlier one: from before what is
/// held now began, or before all of it ended; or nothing is held, and AWS lists it well after an end should have come
/// true.
fn is_of_earlier(situation: &Situation<'_>, holder: &Holder, signal: &SubscriptionSignal) -> bool {
    if !signal.action.is_end() {
        return false;
    }
    let live = held_by(situation, holder).filter(|terms| terms.ended_at.is_none());
    if let Some(start) = live.filter_map(|terms| terms.starts_at).min() {
        return signal.at < start;
    }
    match left_at(situation, holder) {
        Some(left_at) => signal.at <= left_at,
        None => situation.now >= end_expected_by(situation, signal),
    }
}

/// Returns the time at which a buyer who holds nothing any more was told to hold something again.
fn told_anew(situation: &Situation<'_>, holder: &Holder) -> Option<Timestamp> {
    let left_at = left_at(situation, holder)?;
    situation.told_at.filter(|at| *at > left_at && *at <= situation.now)
}

/// Returns the time at which the last of what a holder held ended; none while something lives.
fn left_at(situation: &Situation<'_>, holder: &Holder) -> Option<Timestamp> {
    let ends = held_by(situation, holder).map(|terms| terms.ended_at);
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn held_by<'a>(
    situation: &'a Situation<'_>,
    holder: &'a Holder,
) -> impl Iterator<Item = &'a Terms> {
    let held = situation.held.iter().map(|held| &held.terms);
    held.filter(move |terms| terms.holder.as_ref() == Some(holder))
}

/// Returns the time at which an end that was announced should have come true, whether that was told or not.
fn end_expected_by(situation: &Situation<'_>, signal: &SubscriptionSignal) -> Timestamp {
    let last_moment = signal.at.saturating_add(FINAL_HOUR).unwrap_or(Timestamp::MAX);
    last_moment.saturating_add(situation.patience.expiry_grace).unwrap_or(Timestamp::MAX)
}

/// Returns the terms of a legacy pay-as-you-go sale: no API can tell, so the newest message by its own time does.
fn signalled_terms(
    situation: &Situation<'_>,
    holder: &Holder,
    signal: &SubscriptionSignal,
) -> Terms {
    let last_moment = signal.at.saturating_add(FINAL_HOUR).unwrap_or(Timestamp::MAX);
    // `unsubscribe-success` may never come. Past the last hour and the grace, the announcement is enough.
    let over = end_expected_by(situation, signal);
    let (status, ends_at, ended_at) = match signal.action {
        SubscriptionAction::Success if signal.free_trial => (Status::Trialing, None, None),
        SubscriptionAction::Success => (Status::Active, None, None),
        SubscriptionAction::UnsubscribePending if situation.now < over => {
            (Status::Ending, Some(last_moment), None)
        }
        SubscriptionAction::UnsubscribePending => (Status::Canceled, None, Some(last_moment)),
        SubscriptionAction::UnsubscribeSuccess => (Status::Canceled, None, Some(signal.at)),
        SubscriptionAction::Fail => (Status::Failed, None, Some(signal.at)),
    };
    Terms {
        holder: Some(holder.clone()),
        account_id: None,
        license_arn: None,
        agreement_id: None,
        dimension: None,
        plan_id: situation.product.usage_plan.clone(),
        quantity: None,
        status,
        starts_at: signal.begun_at,
        ends_at,
        missing_since: None,
        ended_at,
        renewed_by: None,
    }
}

/// Returns the terms of a licensed pay-as-you-go sale: the newest word on the licence decides, the agreement's end
/// announces it.
fn licensed_terms(situation: &Situation<'_>, facts: &LicenseFacts) -> Option<Terms> {
    let now = situation.now;
    let agreement = facts.agreement.as_ref();
    let ended = agreement.and_then(|agreement| agreement.ended.as_ref());
    let by_date = ended.is_some_and(|(status, _)| status == "EXPIRED");
    let over = if by_date || facts.is_continued() { Status::Expired } else { Status::Canceled };
    let agreed_end = agreement.and_then(|agreement| agreement.ends_at);
    let (status, ends_at, ended_at) = match facts.standing()? {
        Standing::Failed(at) => (Status::Failed, None, Some(at)),
        Standing::Waiting => (Status::Pending, agreed_end, None),
        Standing::Over(at) => match facts.awaits_follower(now) {
            Some(until) => (Status::Ending, Some(until), None),
            None => (over, None, Some(at)),
        },
        Standing::Live => match agreement.and_then(AgreementFacts::departed_at) {
            Some(at) => {
                let last_moment = at.saturating_add(FINAL_HOUR).unwrap_or(Timestamp::MAX);
                if now < last_moment {
                    (Status::Ending, Some(last_moment), None)
                } else {
                    (over, None, Some(last_moment))
                }
            }
            None if begins_later(facts, now) => (Status::Pending, agreed_end, None),
            None => (Status::Active, agreed_end, None),
        },
    };
    let terms = Terms {
        holder: Some(Holder::License(facts.license_arn.clone())),
        account_id: facts.account_id.clone(),
        license_arn: Some(facts.license_arn.clone()),
        agreement_id: agreement.map(|agreement| agreement.agreement_id.clone()),
        dimension: None,
        plan_id: situation.product.usage_plan.clone(),
        quantity: None,
        status,
        starts_at: agreement.and_then(|agreement| agreement.starts_at).or(facts.first_updated_at),
        ends_at,
        missing_since: None,
        ended_at,
        renewed_by: None,
    };
    Some(match follower_that_came(situation, facts) {
        // Its date is the one agreed on, whatever was announced until the follower came.
        Some(new) => handed_over(Terms { ends_at: agreed_end, ..terms }, Some(facts), new, now),
        None => terms,
    })
}
