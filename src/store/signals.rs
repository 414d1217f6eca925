//! What SNS messages told: the newest of each kind, written as they come, read for every decision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::circle::Circle;
use super::convert::{millis, optional_timestamp, timestamp};
use super::{During, StoreError};
use crate::domain::notification::{SubscriptionAction, SubscriptionNews};
use crate::domain::reconciliation::SubscriptionSignal;
use crate::domain::{BuyerRef, Grant, Holder, ProductCode, Subscription};

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

pub(super) fn signals_in(
    connection: &Connection,
    product_code: &ProductCode,
    circle: &Circle,
    grants: &[Grant],
    held: &[Subscription],
) -> Result<BTreeMap<Holder, SubscriptionSignal>, StoreError> {
    let mut identifiers = circle.identifiers.clone();
    identifiers.extend(grants.iter().filter_map(|grant| grant.customer_identifier.clone()));
    identifiers.extend(held.iter().filter_map(|held| held.terms.customer_identifier().cloned()));
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
