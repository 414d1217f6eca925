//! The facts that access checks are answered from: the catalogue, and one customer's subscriptions and usage.

mod bearing;
mod candidates;
mod catalogue;

use std::sync::Arc;

use jiff::Timestamp;

use super::base::aliases::canonical_in;
use super::base::columns::{millis, optional_timestamp};
use super::subscriptions::grants::succession_of;
use super::subscriptions::holdings::{Holdings, holdings_in};
use super::subscriptions::rows::subscription_row;
use super::{During, Store, StoreError};
use crate::domain::feature::FeatureKind;
use crate::domain::succession::Successions;
use crate::domain::window::Window;
use crate::domain::{
    CustomerId, FeatureId, Holder, LicenseArn, ProductId, Quantity, Source, Status, Subscription,
    SubscriptionId, Terms,
};
use crate::store::engine::sql::{Connection, Transaction};

pub use candidates::AccessTimes;
pub(super) use catalogue::catalogue_of_in;
pub use catalogue::{BilledBy, CatalogueFacts, FeatureFacts, PlanVersion};

/// A customer, as far as checks need it.
#[derive(Debug)]
pub struct CustomerFacts {
    /// Its id, whatever alias was asked for.
    pub id: CustomerId,
    /// The plans that it is subscribed to; where none is or will be in force, the last ones.
    pub held: Box<[HeldPlan]>,
    /// Its usage of metered features, subscription by subscription.
    pub meters: Box<[Meter]>,
    /// What usage can be billed to, where several plans are held; else there is nothing to choose.
    pub(crate) holdings: Option<Box<Holdings>>,
}

/// A subscription, as far as checks need it.
#[derive(Debug)]
pub struct HeldPlan {
    /// The subscription.
    pub id: SubscriptionId,
    /// The plan, in the version that it has; none while its dimension is not mapped.
    pub plan: Option<Arc<PlanVersion>>,
    /// The place where it was bought.
    pub source: Source,
    /// The product; empty for one that is of none.
    pub product: Box<str>,
    /// As subscriptions name what they belong to at AWS; empty for direct ones.
    pub holder: Box<str>,
    /// The other holders whose usage counts against it too: those that it took over from, or that took over from it.
    pub counts_with: Box<[Box<str>]>,
    /// Its status; the dates of a direct one have the last word.
    pub status: Status,
    /// The time at which it begins.
    pub starts_at: Option<Timestamp>,
    /// The time at which it ends, or may end.
    pub ends_at: Option<Timestamp>,
    /// The number of units bought.
    pub units: Option<Quantity>,
}

/// The usage of a metered feature in one window, under one subscription.
#[derive(Debug)]
pub struct Meter {
    /// The place of the subscription in the customer's list.
    pub held: usize,
    /// The feature.
    pub feature: Arc<FeatureFacts>,
    /// The rule by which usage is cut into windows.
    pub window: Window,
    /// The window's start, in milliseconds since 1970.
    pub from_ms: i64,
    /// Its end.
    pub until_ms: i64,
    /// Millionths used in it.
    pub used: i64,
}

impl HeldPlan {
    /// Reports whether it is held under a licence.
    pub fn is_under(&self, license: &LicenseArn) -> bool {
        self.holder.strip_prefix("license:") == Some(license.as_str())
    }

    /// Reports whether usage counts against this that has a bearer, a product and a holder in it, and may name a licence.
    /// Without a bearer it counts against whatever is held, under the licence that it names.
    pub(crate) fn bears(&self, bearer: Option<(&str, &str)>, named: Option<&LicenseArn>) -> bool {
        match (bearer, named) {
            (Some((_, holder)), Some(_)) => *self.holder == *holder,
            (Some((product, holder)), None) => self.counts(product, holder),
            (None, named) => named.is_none_or(|named| self.is_under(named)),
        }
    }

    /// Reports whether usage under a product's holder counts against this: what is billed under it and what is billed
    /// nowhere. What was sold on the seller's own site has no name in usage, so all of the customer's usage counts
    /// against it.
    pub fn counts(&self, product: &str, holder: &str) -> bool {
        self.source == Source::Direct || self.counting().any(|it| it == (product, holder))
    }

    /// Lists the products and holders whose usage counts against what was bought at AWS; empty for none.
    fn counting(&self) -> impl Iterator<Item = (&str, &str)> {
        let others = self.counts_with.iter().map(|it| (&*self.product, &**it));
        [("", ""), (&*self.product, &*self.holder)].into_iter().chain(others)
    }
}

impl Store {
    /// Returns a customer; none if there is none of this id.
    pub async fn customer_facts(
        &self,
        id: CustomerId,
        catalogue: Arc<CatalogueFacts>,
        now: Timestamp,
    ) -> Result<Option<CustomerFacts>, StoreError> {
        self.read(move |connection| {
            // One view of the database for all of it.
            let view = Transaction::of_reads(connection).during("read a customer's access")?;
            customer_in(&view, &id, &catalogue, now)
        })
        .await
    }

    /// Returns the time at which AWS was last asked with success, as far as buyers tell.
    pub async fn last_looked_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT max(looked_at_ms) FROM buyers")
                .and_then(|mut select| select.query_row([], |row| row.get(0)))
                .map(optional_timestamp)
                .during("read when AWS was last asked")
        })
        .await
    }
}

pub(super) fn customer_in(
    connection: &Connection,
    id: &CustomerId,
    catalogue: &CatalogueFacts,
    now: Timestamp,
) -> Result<Option<CustomerFacts>, StoreError> {
    let Some(id) = canonical_in(connection, id)? else { return Ok(None) };
    let mut rows = subscriptions_in(connection, &id)?;
    let successions =
        succession_of(connection, &id, &rows.iter().map(|(it, _)| it).collect::<Vec<_>>())?;
    let over = |row: &(Subscription, Option<i64>)| row.0.terms.ended_at.is_some();
    if rows.iter().all(over) {
        // The last to end says why there is nothing.
        rows.sort_by_key(|(subscription, _)| std::cmp::Reverse(subscription.terms.ended_at));
        rows.truncate(1);
    } else {
        rows.retain(|row| !over(row));
    }
    let mut held = Vec::with_capacity(rows.len());
    let mut meters = Vec::new();
    for (subscription, version) in rows {
        let terms = subscription.terms;
        let plan = terms.plan_id.as_ref().map(|id| catalogue.plan(id, version));
        let counts_with = counts_with(&successions, subscription.product_id.as_ref(), &terms);
        let one = HeldPlan {
            id: subscription.id,
            counts_with,
            plan,
            source: subscription.source,
            product: subscription
                .product_id
                .as_ref()
                .map(ProductId::as_str)
                .unwrap_or_default()
                .into(),
            holder: terms.holder.as_ref().map(Holder::to_string).unwrap_or_default().into(),
            status: terms.status,
            starts_at: terms.starts_at,
            ends_at: terms.ends_at,
            units: terms.quantity,
        };
        if !one.status.is_over() {
            let reader = MeterReader {
                connection,
                customer: &id,
                catalogue,
                successions: &successions,
                now,
            };
            meters.extend(reader.meters_of(&one, held.len())?);
        }
        held.push(one);
    }
    let several = held.len() > 1;
    let holdings = several.then(|| holdings_in(connection, &id)).transpose()?.map(Box::new);
    // Many of them are kept: no room to grow.
    Ok(Some(CustomerFacts { id, held: held.into(), meters: meters.into(), holdings }))
}

fn subscriptions_in(
    connection: &Connection,
    customer: &CustomerId,
) -> Result<Vec<(Subscription, Option<i64>)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT *, NULL AS product_code FROM subscriptions WHERE customer_id = ?1 ORDER BY id",
        )
        .and_then(|mut select| {
            select
                .query_map([customer.as_str()], |row| {
                    Ok((subscription_row(row)?, row.get("plan_version")?))
                })?
                .collect()
        })
        .during("read a customer's subscriptions")
}

/// Returns the holders that count together with a subscription's own.
fn counts_with(
    successions: &Successions,
    product: Option<&ProductId>,
    terms: &Terms,
) -> Box<[Box<str>]> {
    let (Some(product), Some(own)) = (product, &terms.holder) else { return Box::default() };
    let chain = successions.chain_of(product, own);
    let others = chain.into_iter().flat_map(|it| &it.holders).filter(|it| *it != own);
    others.map(|it| it.to_string().into()).collect()
}

/// Reads what a customer has used of metered features.
struct MeterReader<'a> {
    connection: &'a Connection,
    customer: &'a CustomerId,
    catalogue: &'a CatalogueFacts,
    successions: &'a Successions,
    now: Timestamp,
}

impl MeterReader<'_> {
    fn meters_of(&self, one: &HeldPlan, place: usize) -> Result<Vec<Meter>, StoreError> {
        let mut meters = Vec::new();
        let grants = one.plan.as_ref().and_then(|plan| plan.grants.as_ref());
        for (id, terms) in grants.into_iter().flatten() {
            let Some(feature) = self.catalogue.features.get(id) else { continue };
            if feature.kind != FeatureKind::Metered {
                continue;
            }
            let window = self.successions.window(&one.id, terms, one.starts_at);
            let (from_ms, until_ms) = bounds(window, self.now);
            let used = self.used(id, one, (from_ms, until_ms))?;
            let feature = Arc::clone(feature);
            meters.push(Meter { held: place, feature, window, from_ms, until_ms, used });
        }
        Ok(meters)
    }

    fn used(
        &self,
        feature: &FeatureId,
        one: &HeldPlan,
        (from, until): (i64, i64),
    ) -> Result<i64, StoreError> {
        let (customer, feature) = (self.customer.as_str(), feature.as_str());
        if one.source == Source::Direct {
            return self
                .connection
                .prepare_cached(
                    "SELECT coalesce(sum(quantity), 0) FROM usage_hours
                     WHERE customer_id = ?1 AND feature_id = ?2 AND from_ms >= ?3 AND from_ms < ?4",
                )
                .and_then(|mut select| {
                    select.query_row((customer, feature, from, until), |row| row.get(0))
                })
                .during("sum a window's usage");
        }
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT coalesce(sum(quantity), 0) FROM usage_hours
                 WHERE customer_id = ?1 AND feature_id = ?2 AND product_id = ?3 AND holder = ?4
                     AND from_ms >= ?5 AND from_ms < ?6",
            )
            .during("sum a window's usage")?;
        let mut used: i64 = 0;
        for (product, holder) in one.counting() {
            let under: i64 = select
                .query_row((customer, feature, product, holder, from, until), |row| row.get(0))
                .during("sum a window's usage")?;
            used = used.saturating_add(under);
        }
        Ok(used)
    }
}

/// Returns the window around a moment, in milliseconds since 1970.
pub(crate) fn bounds(window: Window, at: Timestamp) -> (i64, i64) {
    let span = window.around(at);
    let from = if span.start == Timestamp::MIN { i64::MIN } else { millis(span.start) };
    (from, span.end.map_or(i64::MAX, millis))
}
