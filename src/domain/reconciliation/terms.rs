//! What each holder should have, by AWS's rows where it lists them, else by the newest notifications.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::prelude::ToPrimitive;

use super::{FINAL_HOUR, LicenseFacts, Situation, SubscriptionSignal};
use crate::domain::notification::{LicenseChange, SubscriptionAction, is_departure};
use crate::domain::{DimensionKey, Grant, GrantValue, Holder, Quantity, Status, Terms};

pub(super) fn desired_terms(situation: &Situation<'_>) -> Vec<Terms> {
    if situation.product.has_contracts() {
        return contract_terms(situation);
    }
    let by_signal =
        situation.signals.iter().map(|(holder, signal)| signalled_terms(situation, holder, signal));
    let by_license = situation.licenses.iter().filter_map(|facts| licensed_terms(situation, facts));
    by_signal.chain(by_license).collect()
}

/// Contract products: AWS's rows, merged by holder and dimension.
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
    let signal = situation.signals.get(&holder);
    let facts = grant
        .license_arn
        .as_ref()
        .and_then(|arn| situation.licenses.iter().find(|facts| facts.license_arn == *arn));
    let agreement = facts.and_then(|facts| facts.agreement.as_ref());
    let leaving = facts.is_some_and(|facts| facts.departure().is_some())
        || signal.is_some_and(|signal| {
            matches!(
                signal.action,
                SubscriptionAction::UnsubscribePending | SubscriptionAction::UnsubscribeSuccess
            )
        })
        || grant.expires_at.is_some_and(|at| at <= situation.now);
    let trial = signal.is_some_and(|signal| signal.free_trial);
    Terms {
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
            .or_else(|| signal.and_then(|signal| signal.first_success_at)),
        ends_at: grant.expires_at,
        missing_since: None,
        ended_at: None,
        holder: Some(holder),
    }
}

/// Legacy pay-as-you-go: no API can tell, so the newest message by its own time does.
fn signalled_terms(
    situation: &Situation<'_>,
    holder: &Holder,
    signal: &SubscriptionSignal,
) -> Terms {
    let last_moment = signal.at.saturating_add(FINAL_HOUR).unwrap_or(Timestamp::MAX);
    // `unsubscribe-success` may never come. Past the last hour and the grace, the announcement is enough.
    let over =
        last_moment.saturating_add(situation.patience.expiry_grace).unwrap_or(Timestamp::MAX);
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
        starts_at: signal.first_success_at,
        ends_at,
        missing_since: None,
        ended_at,
    }
}

/// Licensed pay-as-you-go: the newest licence event decides, the agreement's end announces it.
fn licensed_terms(situation: &Situation<'_>, facts: &LicenseFacts) -> Option<Terms> {
    let (change, changed_at) = facts.change?;
    let agreement = facts.agreement.as_ref();
    let ended = agreement.and_then(|agreement| agreement.ended.as_ref());
    let by_date = ended.is_some_and(|(status, _)| status == "EXPIRED");
    let over = if by_date { Status::Expired } else { Status::Canceled };
    let (status, ends_at, ended_at) = match (change, ended) {
        (LicenseChange::Deprovisioned, _) => (over, None, Some(changed_at)),
        (LicenseChange::Updated, Some((status, at))) if is_departure(status) => {
            let last_moment = at.saturating_add(FINAL_HOUR).unwrap_or(Timestamp::MAX);
            if situation.now < last_moment {
                (Status::Ending, Some(last_moment), None)
            } else {
                (over, None, Some(last_moment))
            }
        }
        (LicenseChange::Updated, _) => {
            (Status::Active, agreement.and_then(|agreement| agreement.ends_at), None)
        }
    };
    Some(Terms {
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
    })
}
