//! Subscriptions sold on the seller's own site. Their dates say where they stand; what is kept of that is brought
//! up to date as the dates pass, so that lists and events tell of it.

use jiff::Timestamp;

use super::rows::{subscription_in, touched, write_change_in};
use crate::domain::plan::PlanStatus;
use crate::domain::{
    CustomerId, PlanId, Quantity, Source, Status, Subscription, SubscriptionId, Terms,
};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::{millis, optional_timestamp};
use crate::store::catalog::plan_rows::plan_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// A sale of the seller's own.
#[derive(Clone, Debug)]
pub struct DirectSubscription {
    /// The seller's id of it.
    pub id: SubscriptionId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The plan.
    pub plan_id: PlanId,
    /// The number of units.
    pub quantity: Option<Quantity>,
    /// True for a trial.
    pub trial: bool,
    /// The time at which it begins; at once if left out.
    pub starts_at: Option<Timestamp>,
    /// The time at which it ends; it goes on if left out.
    pub ends_at: Option<Timestamp>,
}

/// The reason why a subscription could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// There is no such subscription.
    #[error("there is no subscription {0}")]
    UnknownSubscription(SubscriptionId),
    /// There is no such customer.
    #[error("there is no customer {0}: provision it first")]
    UnknownCustomer(CustomerId),
    /// There is no such plan.
    #[error("there is no plan {0}")]
    UnknownPlan(PlanId),
    /// AWS sells the plan.
    #[error(
        "plan {0} is sold by AWS Marketplace: customers subscribe to it there, and it shows here by itself"
    )]
    SoldByAws(PlanId),
    /// AWS sold the subscription.
    #[error("subscription {0} was bought on AWS Marketplace: it is changed and cancelled there")]
    BoughtOnAws(SubscriptionId),
    /// The plan takes nobody new.
    #[error("plan {0} is archived: it stays with those who have it and takes nobody new")]
    Archived(PlanId),
    /// It is somebody else's.
    #[error("subscription {id} belongs to customer {holder}; give this one an id of its own")]
    OtherCustomer {
        /// The subscription.
        id: SubscriptionId,
        /// The customer.
        holder: CustomerId,
    },
    /// It is over.
    #[error("subscription {0} is over: subscribe the customer anew under another id")]
    Over(SubscriptionId),
    /// It would end before it begins.
    #[error("a subscription ends after it begins: {ends_at} is not after {starts_at}")]
    EndsBeforeItBegins {
        /// The time at which it would begin.
        starts_at: Timestamp,
        /// The time at which it would end.
        ends_at: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Subscribes a customer to a plan of the seller's own, or changes what was subscribed.
    pub async fn put_direct(
        &self,
        request: DirectSubscription,
        now: Timestamp,
    ) -> Result<Subscription, DirectError> {
        self.write(move |connection| put_in(connection, &request, now)).await
    }

    /// Ends a subscription of the seller's own: now, or at a later date until which it holds.
    pub async fn cancel_direct(
        &self,
        id: SubscriptionId,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Subscription, DirectError> {
        self.write(move |connection| cancel_in(connection, &id, at, now)).await
    }

    /// Updates the status of direct subscriptions whose dates have passed, and returns how many changed.
    pub async fn update_direct_statuses(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| update_statuses_in(connection, now)).await
    }

    /// Returns the next date that changes the status of a subscription of the seller's own.
    pub async fn next_direct(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT min(at) FROM (
                         SELECT min(ends_at_ms) AS at FROM subscriptions
                         WHERE source = 'direct' AND ended_at_ms IS NULL
                         UNION ALL SELECT min(starts_at_ms) FROM subscriptions
                         WHERE source = 'direct' AND status = 'pending') AS dates",
                )
                .and_then(|mut select| select.query_row([], |row| row.get(0)))
                .map(optional_timestamp)
                .during("find the next date of a subscription")
        })
        .await
    }
}

fn put_in(
    connection: &Connection,
    request: &DirectSubscription,
    now: Timestamp,
) -> Result<Subscription, DirectError> {
    let customer_id = canonical_in(connection, &request.customer_id)?
        .ok_or_else(|| DirectError::UnknownCustomer(request.customer_id.clone()))?;
    let held = subscription_in(connection, &request.id)?;
    if let Some(held) = &held {
        check_held(held, &customer_id, now)?;
    }
    let plan = plan_in(connection, &request.plan_id)?
        .ok_or_else(|| DirectError::UnknownPlan(request.plan_id.clone()))?;
    let stays = held.as_ref().is_some_and(|held| held.terms.plan_id.as_ref() == Some(&plan.id));
    if plan.source == Source::Aws && !stays {
        return Err(DirectError::SoldByAws(plan.id));
    }
    if plan.status == PlanStatus::Archived && !stays {
        return Err(DirectError::Archived(plan.id));
    }
    let begun = held.as_ref().and_then(|held| held.terms.starts_at);
    let starts_at = request.starts_at.or(begun).unwrap_or(now);
    if let Some(ends_at) = request.ends_at.filter(|ends_at| *ends_at <= starts_at) {
        return Err(DirectError::EndsBeforeItBegins { starts_at, ends_at });
    }
    let mut terms = Terms {
        holder: None,
        account_id: None,
        license_arn: None,
        agreement_id: None,
        dimension: None,
        plan_id: Some(plan.id.clone()),
        quantity: request.quantity,
        status: if request.trial { Status::Trialing } else { Status::Active },
        starts_at: Some(starts_at),
        ends_at: request.ends_at,
        missing_since: None,
        ended_at: None,
        renewed_by: None,
    };
    set_status(&mut terms, now);
    let product_id = plan.product_id;
    let after = match &held {
        Some(held) if held.terms == terms => return Ok(held.clone()),
        Some(held) => Subscription { product_id, ..touched(held.clone(), terms, now) },
        None => Subscription {
            id: request.id.clone(),
            customer_id,
            product_id,
            product_code: None,
            source: Source::Direct,
            terms,
            created_at: now,
            updated_at: now,
        },
    };
    write_change_in(connection, held.as_ref(), &after, now)?;
    Ok(after)
}

fn check_held(
    held: &Subscription,
    customer: &CustomerId,
    now: Timestamp,
) -> Result<(), DirectError> {
    if held.source == Source::Aws {
        return Err(DirectError::BoughtOnAws(held.id.clone()));
    }
    if held.customer_id != *customer {
        let (id, holder) = (held.id.clone(), held.customer_id.clone());
        return Err(DirectError::OtherCustomer { id, holder });
    }
    if held.status_at(now).is_over() {
        return Err(DirectError::Over(held.id.clone()));
    }
    Ok(())
}

fn cancel_in(
    connection: &Connection,
    id: &SubscriptionId,
    at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Subscription, DirectError> {
    let held = subscription_in(connection, id)?
        .ok_or_else(|| DirectError::UnknownSubscription(id.clone()))?;
    if held.source == Source::Aws {
        return Err(DirectError::BoughtOnAws(id.clone()));
    }
    if held.status_at(now).is_over() {
        return Ok(held);
    }
    let mut terms = held.terms.clone();
    let at = at.unwrap_or(now).max(now);
    // What ends earlier by itself ends then.
    terms.ends_at = Some(terms.ends_at.map_or(at, |ends_at| ends_at.min(at)));
    terms.status = Status::Ending;
    set_status(&mut terms, now);
    if terms == held.terms {
        return Ok(held);
    }
    let after = touched(held.clone(), terms, now);
    write_change_in(connection, Some(&held), &after, now)?;
    Ok(after)
}

fn update_statuses_in(connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
    let due: Vec<String> = connection
        .prepare_cached(
            "SELECT id FROM subscriptions WHERE source = 'direct' AND ended_at_ms IS NULL
               AND (ends_at_ms <= ?1 OR (status = 'pending' AND starts_at_ms <= ?1))",
        )
        .and_then(|mut select| select.query_map([millis(now)], |row| row.get(0))?.collect())
        .during("find subscriptions whose dates have passed")?;
    let mut updated = 0;
    for id in due {
        let Some(held) = subscription_in(connection, &SubscriptionId::new(id))? else { continue };
        let mut terms = held.terms.clone();
        set_status(&mut terms, now);
        if terms != held.terms {
            let after = touched(held.clone(), terms, now);
            write_change_in(connection, Some(&held), &after, now)?;
            updated += 1;
        }
    }
    Ok(updated)
}

/// Sets the status that the dates give.
fn set_status(terms: &mut Terms, now: Timestamp) {
    terms.status = terms.direct_status_at(now);
    terms.ended_at = if terms.status.is_over() { terms.ends_at } else { None };
}
