//! What notifications told: the newest fact of each kind, written as they come, read for every decision.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::convert::{millis, optional_timestamp, timestamp};
use super::{During, StoreError};
use crate::domain::notification::{
    AgreementNews, LicenseChange, LicenseNews, SubscriptionAction, SubscriptionNews,
};
use crate::domain::reconciliation::{AgreementFacts, LicenseFacts, SubscriptionSignal};
use crate::domain::{
    AccountId, AgreementId, BuyerKey, BuyerRef, CustomerIdentifier, Grant, Holder, LicenseArn,
    ProductCode, Subscription,
};

pub(super) fn write_subscription_signal(
    connection: &Connection,
    news: &SubscriptionNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    let key = (news.product_code.as_str(), news.customer_identifier.as_str());
    let held: Option<(Option<String>, Option<i64>)> = connection
        .prepare_cached(
            "SELECT action, action_at_ms FROM buyer_signals
             WHERE product_code = ?1 AND customer_identifier = ?2",
        )
        .and_then(|mut select| {
            select.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .during("read a buyer's newest notification")?;
    let newest = held.and_then(|(action, at)| Some((at?, SubscriptionAction::parse(&action?)?)));
    let at = millis(at);
    if newest.is_none_or(|newest| newest < (at, news.action)) {
        connection
            .prepare_cached(
                "INSERT INTO buyer_signals
                     (product_code, customer_identifier, action, action_at_ms, free_trial, offer_id)
                 VALUES (:code, :buyer, :action, :at, :trial, :offer)
                 ON CONFLICT DO UPDATE SET action = :action, action_at_ms = :at,
                     free_trial = ifnull(:trial, free_trial), offer_id = ifnull(:offer, offer_id)",
            )
            .and_then(|mut upsert| {
                upsert.execute(named_params! {
                    ":code": key.0, ":buyer": key.1, ":action": news.action.as_str(), ":at": at,
                    ":trial": news.free_trial, ":offer": news.offer_id,
                })
            })
            .during("take over a subscription notification")?;
    }
    if news.action == SubscriptionAction::Success {
        connection
            .prepare_cached(
                "UPDATE buyer_signals SET first_success_at_ms = min(ifnull(first_success_at_ms, ?3), ?3)
                 WHERE product_code = ?1 AND customer_identifier = ?2",
            )
            .and_then(|mut update| update.execute((key.0, key.1, at)))
            .during("take over a subscription notification")?;
    }
    Ok(())
}

pub(super) fn write_license(
    connection: &Connection,
    news: &LicenseNews,
    product_code: &ProductCode,
    at: Timestamp,
) -> Result<(), StoreError> {
    let first_updated = (news.change == LicenseChange::Updated).then(|| millis(at));
    // The newest event by its own time decides; at the same second the end is taken for the newer one,
    // which is also the order of the two words.
    connection
        .prepare_cached(
            "INSERT INTO licenses (license_arn, product_code, account_id, agreement_id, change,
                 change_at_ms, first_updated_at_ms)
             VALUES (:arn, :code, :account, :agreement, :change, :at, :first)
             ON CONFLICT DO UPDATE SET
                 product_code = :code,
                 account_id = ifnull(:account, account_id),
                 agreement_id = CASE WHEN :at > ifnull(change_at_ms, 0)
                     OR (:at = change_at_ms AND (:change, ifnull(:agreement, '')) <= (change, ifnull(agreement_id, '')))
                     THEN ifnull(:agreement, agreement_id) ELSE ifnull(agreement_id, :agreement) END,
                 change = CASE WHEN :at > ifnull(change_at_ms, 0)
                     OR (:at = change_at_ms AND :change = 'deprovisioned')
                     THEN :change ELSE change END,
                 change_at_ms = max(ifnull(change_at_ms, 0), :at),
                 first_updated_at_ms = CASE WHEN :first IS NULL THEN first_updated_at_ms
                     ELSE min(ifnull(first_updated_at_ms, :first), :first) END",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":arn": news.license_arn.as_str(),
                ":code": product_code.as_str(),
                ":account": news.account_id.as_ref().map(AccountId::as_str),
                ":agreement": news.agreement_id.as_ref().map(AgreementId::as_str),
                ":change": news.change.as_str(),
                ":at": millis(at),
                ":first": first_updated,
            })
        })
        .during("take over a licence event")?;
    Ok(())
}

pub(super) fn write_agreement(
    connection: &Connection,
    news: &AgreementNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    let at = millis(at);
    // Its terms are those of the newest event that tells any, whichever comes first; of two at the same time, those
    // that end later. The newest end is the agreement's, and keeps its own time. An end tells no terms, and whom and
    // what the agreement is about never changes.
    let tells_terms = news.starts_at.is_some() || news.ends_at.is_some();
    connection
        .prepare_cached(
            "INSERT INTO agreements AS held (agreement_id, account_id, entity_id, offer_id, intent,
                 previous_agreement_id, starts_at_ms, ends_at_ms, told_at_ms, ended_status, ended_at_ms)
             VALUES (:id, :account, :entity, :offer, :intent, :previous, :starts, :ends, :told, :ended, :ended_at)
             ON CONFLICT DO UPDATE SET
                 account_id = ifnull(:account, account_id),
                 entity_id = ifnull(:entity, entity_id),
                 previous_agreement_id = ifnull(:previous, previous_agreement_id),
                 (offer_id, intent, starts_at_ms, ends_at_ms, told_at_ms) = (SELECT
                     CASE WHEN newer THEN ifnull(:offer, held.offer_id) ELSE ifnull(held.offer_id, :offer) END,
                     CASE WHEN newer THEN ifnull(:intent, held.intent) ELSE ifnull(held.intent, :intent) END,
                     CASE WHEN newer THEN :starts ELSE held.starts_at_ms END,
                     CASE WHEN newer THEN :ends ELSE held.ends_at_ms END,
                     CASE WHEN newer THEN :told ELSE held.told_at_ms END
                     FROM (SELECT :told IS NOT NULL AND (held.told_at_ms IS NULL
                         OR (:told, ifnull(:ends, :never), ifnull(:starts, 0))
                             > (held.told_at_ms, ifnull(held.ends_at_ms, :never), ifnull(held.starts_at_ms, 0))
                         ) AS newer)),
                 (ended_status, ended_at_ms) = (SELECT
                     CASE WHEN newer THEN :ended ELSE held.ended_status END,
                     CASE WHEN newer THEN :ended_at ELSE held.ended_at_ms END
                     FROM (SELECT :ended IS NOT NULL AND (held.ended_status IS NULL
                         OR (:ended_at, :ended) > (held.ended_at_ms, held.ended_status)) AS newer))",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": news.agreement_id.as_str(),
                ":account": news.account_id.as_ref().map(AccountId::as_str),
                ":entity": news.entity_id.as_ref().map(crate::domain::EntityId::as_str),
                ":offer": news.offer_id,
                ":intent": news.intent,
                ":previous": news.previous_agreement_id.as_ref().map(AgreementId::as_str),
                ":starts": news.starts_at.map(millis),
                ":ends": news.ends_at.map(millis),
                ":told": tells_terms.then_some(at),
                ":never": i64::MAX,
                ":ended": news.ended,
                ":ended_at": news.ended.as_ref().map(|_| at),
            })
        })
        .during("take over an agreement event")?;
    Ok(())
}

/// The buyers whose licences stand on this agreement, as far as licence events have told.
pub(super) fn buyers_of_agreement(
    connection: &Connection,
    news: &AgreementNews,
) -> Result<Vec<BuyerKey>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT DISTINCT product_code, account_id, CASE WHEN account_id IS NULL THEN license_arn END
             FROM licenses WHERE agreement_id = ?1 AND product_code IS NOT NULL",
        )
        .during("find an agreement's licences")?;
    let rows = select
        .query_map([news.agreement_id.as_str()], |row| {
            let account: Option<String> = row.get(1)?;
            let buyer = match account {
                Some(id) => BuyerRef::Account(AccountId::new(id)),
                None => BuyerRef::License(LicenseArn::new(row.get::<_, String>(2)?)),
            };
            Ok(BuyerKey { product_code: ProductCode::new(row.get::<_, String>(0)?), buyer })
        })
        .during("find an agreement's licences")?;
    rows.collect::<Result<_, _>>().during("find an agreement's licences")
}
pub(super) fn licenses_in(
    connection: &Connection,
    product_code: &ProductCode,
    buyer: &BuyerRef,
    grants: &[Grant],
    held: &[Subscription],
) -> Result<Vec<LicenseFacts>, StoreError> {
    let mut arns: BTreeSet<LicenseArn> =
        grants.iter().filter_map(|it| it.license_arn.clone()).collect();
    arns.extend(held.iter().filter_map(|it| it.terms.license_arn.clone()));
    match buyer {
        BuyerRef::License(arn) => {
            arns.insert(arn.clone());
        }
        BuyerRef::Account(account) => {
            let of_account: Vec<String> = connection
                .prepare_cached(
                    "SELECT license_arn FROM licenses WHERE account_id = ?1 AND product_code = ?2",
                )
                .and_then(|mut select| {
                    select
                        .query_map((account.as_str(), product_code.as_str()), |row| row.get(0))?
                        .collect()
                })
                .during("list an account's licences")?;
            arns.extend(of_account.into_iter().map(LicenseArn::new));
        }
        BuyerRef::CustomerIdentifier(_) => {}
    }
    let mut facts = Vec::with_capacity(arns.len());
    for arn in arns {
        facts.extend(license_facts_in(connection, &arn)?);
    }
    Ok(facts)
}

fn license_facts_in(
    connection: &Connection,
    arn: &LicenseArn,
) -> Result<Option<LicenseFacts>, StoreError> {
    connection
        .prepare_cached(
            "SELECT l.account_id, l.change, l.change_at_ms, l.first_updated_at_ms, l.agreement_id,
                 a.starts_at_ms, a.ends_at_ms, a.ended_status, a.ended_at_ms
             FROM licenses l LEFT JOIN agreements a USING (agreement_id) WHERE l.license_arn = ?1",
        )
        .and_then(|mut select| {
            select
                .query_row([arn.as_str()], |row| {
                    let change = match row.get::<_, Option<String>>(1)?.as_deref() {
                        Some("deprovisioned") => Some(LicenseChange::Deprovisioned),
                        Some(_) => Some(LicenseChange::Updated),
                        None => None,
                    };
                    let ended: Option<String> = row.get(7)?;
                    let ended_at = optional_timestamp(row.get(8)?);
                    let agreement = match row.get::<_, Option<String>>(4)? {
                        Some(id) => Some(AgreementFacts {
                            agreement_id: AgreementId::new(id),
                            starts_at: optional_timestamp(row.get(5)?),
                            ends_at: optional_timestamp(row.get(6)?),
                            ended: ended.zip(ended_at),
                        }),
                        None => None,
                    };
                    Ok(LicenseFacts {
                        license_arn: arn.clone(),
                        account_id: row.get::<_, Option<String>>(0)?.map(AccountId::new),
                        change: change.zip(optional_timestamp(row.get(2)?)),
                        first_updated_at: optional_timestamp(row.get(3)?),
                        agreement,
                    })
                })
                .optional()
        })
        .during("read a licence's facts")
}

pub(super) fn signals_in(
    connection: &Connection,
    product_code: &ProductCode,
    buyer: &BuyerRef,
    grants: &[Grant],
    held: &[Subscription],
) -> Result<BTreeMap<Holder, SubscriptionSignal>, StoreError> {
    let mut identifiers: BTreeSet<CustomerIdentifier> =
        grants.iter().filter_map(|grant| grant.customer_identifier.clone()).collect();
    identifiers.extend(held.iter().filter_map(|held| held.terms.customer_identifier().cloned()));
    if let BuyerRef::CustomerIdentifier(id) = buyer {
        identifiers.insert(id.clone());
    }
    let mut signals = BTreeMap::new();
    for identifier in identifiers {
        let signal = connection
            .prepare_cached(
                "SELECT action, action_at_ms, free_trial, first_success_at_ms FROM buyer_signals
                 WHERE product_code = ?1 AND customer_identifier = ?2 AND action IS NOT NULL",
            )
            .and_then(|mut select| {
                select
                    .query_row((product_code.as_str(), identifier.as_str()), |row| {
                        let action = SubscriptionAction::parse(&row.get::<_, String>(0)?);
                        let free_trial: Option<bool> = row.get(2)?;
                        let at = timestamp(row.get(1)?);
                        let first_success_at = optional_timestamp(row.get(3)?);
                        Ok(action.map(|action| SubscriptionSignal {
                            action,
                            at,
                            free_trial: free_trial.unwrap_or(false),
                            first_success_at,
                        }))
                    })
                    .optional()
            })
            .during("read a buyer's newest notification")?;
        if let Some(signal) = signal.flatten() {
            signals.insert(Holder::Buyer(identifier), signal);
        }
    }
    Ok(signals)
}

/// When AWS last said that a legacy buyer's entitlements changed.
pub(super) fn told_at_in(
    connection: &Connection,
    product_code: &ProductCode,
    buyer: &BuyerRef,
) -> Result<Option<Timestamp>, StoreError> {
    let BuyerRef::CustomerIdentifier(id) = buyer else { return Ok(None) };
    connection
        .prepare_cached(
            "SELECT entitlement_updated_at_ms FROM buyer_signals
             WHERE product_code = ?1 AND customer_identifier = ?2",
        )
        .and_then(|mut select| {
            select
                .query_row((product_code.as_str(), id.as_str()), |row| row.get::<_, Option<i64>>(0))
                .optional()
        })
        .map(|found| optional_timestamp(found.flatten()))
        .during("read when entitlements were told to change")
}
