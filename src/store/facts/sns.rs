//! Facts from SNS messages: written as they come, read for every decision.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::buyer_names::BuyerNames;
use crate::domain::notification::{SubscriptionAction, SubscriptionNews};
use crate::domain::reconciliation::{SubscriptionMessage, SubscriptionSignal};
use crate::domain::{Grant, Holder, ProductCode, Subscription};
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{self, Connection, named_params};
use crate::store::{During, StoreError};

pub(crate) fn write_subscription_signal(
    connection: &Connection,
    news: &SubscriptionNews,
    at: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO subscription_signals (product_code, customer_identifier, at_ms, action, offer_id, free_trial)
             VALUES (:code, :buyer, :at, :action, coalesce(:offer, ''), :trial)
             ON CONFLICT (product_code, customer_identifier, at_ms, action, offer_id) DO UPDATE SET free_trial =
                 greatest(subscription_signals.free_trial, excluded.free_trial)",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":code": news.product_code.as_str(),
                ":buyer": news.customer_identifier.as_str(),
                ":at": millis(at),
                ":action": news.action.as_str(),
                ":trial": news.free_trial,
                ":offer": news.offer_id,
            })
        })
        .during("take over a subscription notification")?;
    Ok(())
}

/// Reads the signals about the subscriptions of these buyers.
pub(crate) fn signals_in(
    connection: &Connection,
    product_code: &ProductCode,
    circle: &BuyerNames,
    grants: &[Grant],
    held: &[Subscription],
) -> Result<BTreeMap<Holder, SubscriptionSignal>, StoreError> {
    let mut identifiers = circle.identifiers.clone();
    identifiers.extend(grants.iter().filter_map(|grant| grant.customer_identifier.clone()));
    identifiers.extend(held.iter().filter_map(|held| held.terms.customer_identifier().cloned()));
    let mut signals = BTreeMap::new();
    for identifier in identifiers {
        let messages: Vec<Option<SubscriptionMessage>> = connection
            .prepare_cached(
                "SELECT action, at_ms, free_trial, offer_id FROM subscription_signals
                 WHERE product_code = ?1 AND customer_identifier = ?2",
            )
            .and_then(|mut select| {
                let message = |row: &sql::Row<'_>| {
                    let action = SubscriptionAction::parse(&row.get::<_, String>(0)?);
                    let (at, free_trial) = (timestamp(row.get(1)?), row.get(2)?);
                    let offer_id = Some(row.get::<_, String>(3)?).filter(|id| !id.is_empty());
                    Ok(action.map(|action| SubscriptionMessage {
                        action,
                        at,
                        free_trial,
                        offer_id,
                    }))
                };
                select.query_map((product_code.as_str(), identifier.as_str()), message)?.collect()
            })
            .during("read what was told of a buyer's subscription")?;
        let signal = SubscriptionSignal::of(messages.into_iter().flatten().collect());
        signals.extend(signal.map(|signal| (Holder::Buyer(identifier), signal)));
    }
    Ok(signals)
}
