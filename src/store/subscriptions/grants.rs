//! Grants: a customer's entitlements to a feature, the windows in which usage counts, and the holders that count
//! together.

use std::rc::Rc;

use jiff::Timestamp;

use super::rows::subscription_row;
use crate::domain::allowance::Granted;
use crate::domain::aws_limits::FINAL_HOUR;
use crate::domain::succession::{Chain, Successions, Tenure};
use crate::domain::terms::{Anchor, Bill};
use crate::domain::{
    CustomerId, FeatureId, Holder, ProductId, Quantity, Subscription, SubscriptionId,
};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::catalog::plan_rows::entitlement_row;
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// The grants of a feature by a customer's plans.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// Each grant, and under what it is held; direct ones under nothing.
    pub(crate) held: Vec<(Option<(ProductId, Holder)>, Granted)>,
    /// The holders that count together. Empty where no grant asks for it.
    pub(crate) successions: Successions,
}

impl Grants {
    /// Returns the grants under one holder. A legacy name holds plans of several products.
    pub(crate) fn under(&self, product: &ProductId, holder: &Holder) -> Vec<Granted> {
        let is_it = |of: &(ProductId, Holder)| of.0 == *product && of.1 == *holder;
        let held = self.held.iter().filter(|(of, _)| of.as_ref().is_some_and(is_it));
        held.map(|(_, granted)| granted.clone()).collect()
    }
}

/// Returns the holders whose usage counts together with one's, that one included, as usage is counted by them.
pub(crate) fn counting_with(
    successions: &Successions,
    product: &ProductId,
    holder: &Holder,
) -> Rc<[String]> {
    let chain = successions.chain_of(product, holder);
    match chain {
        Some(chain) => chain.holders.iter().map(Holder::to_string).collect(),
        None => Rc::from([holder.to_string()]),
    }
}

const GRANTED: &str =
    "SELECT e.*, s.id AS subscription_id, s.product_id, s.holder, s.quantity AS units,
         s.starts_at_ms
     FROM subscriptions s
     JOIN plans p ON p.id = s.plan_id
     JOIN plan_entitlements e ON e.plan_id = s.plan_id AND e.feature_id = ?2
         AND e.version = coalesce(s.plan_version, p.published_version, p.version)
     WHERE s.customer_id = ?1 AND s.status <> 'failed'
         AND (s.ended_at_ms IS NULL OR s.ended_at_ms > ?3)
     ORDER BY s.ended_at_ms IS NOT NULL, e.plan_id";

/// Asks ahead for what [`granted_in`] reads.
pub(crate) fn ask_granted(
    connection: &Connection,
    customer: &CustomerId,
    feature: &FeatureId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let asked = (customer.as_str(), feature.as_str(), millis(decided_since(now)));
    connection.ask_ahead(GRANTED, &asked).during("read what a customer's plans grant")
}

/// Returns the time since which a subscription may have ended and still decide: over its last hour's usage.
fn decided_since(now: Timestamp) -> Timestamp {
    now.saturating_sub(FINAL_HOUR).unwrap_or(Timestamp::MIN)
}

/// Reads what a customer's plans grant of a feature.
pub(crate) fn granted_in(
    connection: &Connection,
    customer: &CustomerId,
    feature: &FeatureId,
    now: Timestamp,
) -> Result<Grants, StoreError> {
    let last = decided_since(now);
    let rows: Vec<Row> = connection
        .prepare_cached(GRANTED)
        .and_then(|mut select| {
            select
                .query_map((customer.as_str(), feature.as_str(), millis(last)), |row| {
                    Ok(Row {
                        subscription: SubscriptionId::new(row.get::<_, String>("subscription_id")?),
                        holder: row
                            .get::<_, Option<String>>("product_id")?
                            .map(ProductId::new)
                            .zip(Holder::parse(&row.get::<_, String>("holder")?)),
                        terms: entitlement_row(row)?.terms,
                        units: row
                            .get::<_, Option<i64>>("units")?
                            .and_then(Quantity::from_millionths),
                        starts_at: optional_timestamp(row.get("starts_at_ms")?),
                    })
                })?
                .collect()
        })
        .during("read what a customer's plans grant")?;
    // Most usage is of plans that bill all of it, and costs no more looks.
    let asks = |row: &Row| {
        let anchored = row.terms.reset.is_some() && row.terms.anchor == Anchor::Subscription;
        row.holder.is_some() && (anchored || row.terms.bill == Bill::Overage)
    };
    let successions = if rows.iter().any(asks) {
        successions_in(connection, customer)?
    } else {
        Successions::default()
    };
    let granted = |row: Row| {
        let window = successions.window(&row.subscription, &row.terms, row.starts_at);
        (row.holder, Granted { terms: row.terms, units: row.units, window })
    };
    let held = rows.into_iter().map(granted).collect();
    Ok(Grants { held, successions })
}

/// Reads what the newest plan of a chain's holders grants of a feature: of those that are held, else as their plans stood
/// at their end. Nothing if no plan speaks of it.
pub(crate) fn granted_to_newest_in(
    connection: &Connection,
    customer: &CustomerId,
    chain: &Chain,
    feature: &FeatureId,
    now: Timestamp,
) -> Result<Vec<Granted>, StoreError> {
    for holder in chain.holders.iter().rev() {
        let until = held_until_in(connection, customer, &chain.product, holder)?;
        let moment = until.map_or(now, |until| until.min(now));
        let grants = granted_in(connection, customer, feature, moment)?;
        let granted = grants.under(&chain.product, holder);
        if !granted.is_empty() {
            return Ok(granted);
        }
    }
    Ok(Vec::new())
}

/// Returns when the last that was held under a holder ended; none while something is held.
fn held_until_in(
    connection: &Connection,
    customer: &CustomerId,
    product: &ProductId,
    holder: &Holder,
) -> Result<Option<Timestamp>, StoreError> {
    let ends: Vec<Option<i64>> = connection
        .prepare_cached(
            "SELECT ended_at_ms FROM subscriptions
             WHERE customer_id = ?1 AND product_id = ?2 AND holder = ?3 AND status <> 'failed'",
        )
        .and_then(|mut select| {
            let ids = (customer.as_str(), product.as_str(), holder.to_string());
            select.query_map(ids, |row| row.get(0))?.collect()
        })
        .during("read until when something was held")?;
    let ended: Option<Vec<i64>> = ends.into_iter().collect();
    Ok(ended.and_then(|ends| ends.into_iter().max()).map(timestamp))
}

/// A grant as it is read.
struct Row {
    subscription: SubscriptionId,
    holder: Option<(ProductId, Holder)>,
    terms: crate::domain::terms::EntitlementTerms,
    units: Option<Quantity>,
    starts_at: Option<Timestamp>,
}

/// Finds what counts together of all that a customer holds and held.
pub(crate) fn successions_in(
    connection: &Connection,
    customer: &CustomerId,
) -> Result<Successions, StoreError> {
    let held: Vec<Subscription> = connection
        .prepare_cached(
            "SELECT *, NULL AS product_code FROM subscriptions WHERE customer_id = ?1 AND source = 'aws'",
        )
        .and_then(|mut select| select.query_map([customer.as_str()], subscription_row)?.collect())
        .during("read what a customer holds and held")?;
    succession_of(connection, customer, &held.iter().collect::<Vec<_>>())
}

/// Returns the successions of a customer whose subscriptions have been read.
pub(crate) fn succession_of(
    connection: &Connection,
    customer: &CustomerId,
    held: &[&Subscription],
) -> Result<Successions, StoreError> {
    let mut tenures: Vec<Tenure> = held.iter().copied().filter_map(tenure).collect();
    let earlier: Vec<(String, Option<i64>, i64)> = connection
        .prepare_cached(
            "SELECT e.subscription_id, e.starts_at_ms, e.ended_at_ms FROM subscriptions s
             JOIN earlier_tenures e ON e.subscription_id = s.id WHERE s.customer_id = ?1",
        )
        .and_then(|mut select| {
            select
                .query_map([customer.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })
        .during("read when subscriptions were held before")?;
    for (id, starts_at, ended_at) in earlier {
        let now_held = held.iter().copied().find(|it| it.id.as_str() == id);
        if let Some(tenure) = now_held.and_then(tenure) {
            let until = timestamp(ended_at);
            let starts_at = optional_timestamp(starts_at);
            tenures.push(Tenure {
                since: starts_at.unwrap_or(until),
                starts_at,
                until: Some(until),
                renewed_by: None,
                pending: false,
                failed: false,
                ..tenure
            });
        }
    }
    Ok(Successions::of(tenures))
}

fn tenure(held: &Subscription) -> Option<Tenure> {
    Tenure::of(&held.id, held.product_id.as_ref(), &held.terms, held.created_at)
}
