//! Access checks: what customers may use, answered from memory.
//!
//! A customer is read from the database when first asked for and kept; the store tells of every commit that
//! touches one, before whoever made it is answered, so nobody is told less than they know. Usage is added to what
//! is kept, anything else has the customer read anew. Windows and the dates of direct subscriptions are compared
//! with the time of the question: nothing has to happen for a limit to reset or a subscription to end.

mod cache;
mod customer;

use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::domain::access::{Access, Question, Reason, refusal};
use crate::domain::consumption::Consumption;
use crate::domain::ledger::AgeLimits;
use crate::domain::usage::{Rejection, UsageEvent};
use crate::domain::{CustomerId, FeatureId, LicenseArn, Quantity};
use crate::health::Health;
use crate::store::{CatalogueFacts, CommitNews, ConsumeRequest, FeatureFacts, Store, StoreError};
use cache::{Cache, Found};

/// The access checks; clones share what is kept.
#[derive(Clone)]
pub struct AccessChecks {
    store: Store,
    clock: Clock,
    health: Health,
    kept: Arc<Kept>,
    /// The time for which AWS may be out of reach before answers say so.
    stale_after: SignedDuration,
    /// The time at which AWS was last asked with success before this process began.
    asked_before: Option<Timestamp>,
}

/// The catalogue and the customers that are kept in memory.
#[derive(Default)]
struct Kept {
    catalogue: RwLock<Option<Arc<Catalogue>>>,
    customers: Cache,
}

/// The catalogue, and how many there were before it.
struct Catalogue {
    generation: u64,
    facts: Arc<CatalogueFacts>,
}

/// The details of one check.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The quantity that is about to be used.
    pub requested: Option<Quantity>,
    /// The licence, if only what is held under it counts.
    pub license_arn: Option<LicenseArn>,
}

impl AccessChecks {
    /// Starts with nothing in memory. A store has one of these.
    pub async fn start(
        store: Store,
        clock: Clock,
        health: Health,
        stale_after: SignedDuration,
    ) -> Result<Self, StoreError> {
        let asked_before = store.last_looked_at().await?;
        let kept = Arc::new(Kept::default());
        let told = Arc::clone(&kept);
        store.watch(move |news| told.take(news));
        Ok(Self { store, clock, health, kept, stale_after, asked_before })
    }

    /// Decides whether a customer may use a feature.
    pub async fn check(
        &self,
        customer: &CustomerId,
        feature: &FeatureId,
        check: &Check,
    ) -> Result<Access, StoreError> {
        let catalogue = self.catalogue().await?;
        let Some(feature) = catalogue.facts.features.get(feature) else {
            return Ok(refusal(feature.clone(), None, Reason::UnknownFeature));
        };
        let mut answers = self.answer(&catalogue, customer, &[feature], check).await?;
        answers.pop().ok_or(StoreError::Closed)
    }

    /// Lists what a customer may use, feature by feature in the order of their ids: so many at most, after the one that
    /// is named.
    pub async fn list(
        &self,
        customer: &CustomerId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Access>, StoreError> {
        let catalogue = self.catalogue().await?;
        let mut features: Vec<&Arc<FeatureFacts>> = catalogue
            .facts
            .features
            .values()
            .filter(|feature| after.is_none_or(|after| feature.id.as_str() > after))
            .collect();
        features.sort_by(|one, other| one.id.cmp(&other.id));
        features.truncate(limit);
        self.answer(&catalogue, customer, &features, &Check::default()).await
    }

    /// Counts usage of a feature if its customer may use so much: decided by the database, in the commit that counts it.
    /// The inner error is why a usage report would reject the event.
    pub async fn consume(
        &self,
        event: UsageEvent,
        limits: AgeLimits,
    ) -> Result<Result<Consumption, Rejection>, StoreError> {
        let now = self.clock.now();
        let stale_since = self.stale_since(now);
        self.store.consume(ConsumeRequest { event, limits, stale_since, now }).await
    }

    async fn answer(
        &self,
        catalogue: &Catalogue,
        customer: &CustomerId,
        features: &[&Arc<FeatureFacts>],
        check: &Check,
    ) -> Result<Vec<Access>, StoreError> {
        let now = self.clock.now();
        let stale_since = self.stale_since(now);
        let judge = |known: &customer::Known| -> Vec<Access> {
            let answers = features.iter().map(|feature| {
                let question = Question {
                    feature_id: &feature.id,
                    kind: feature.kind,
                    when_stale: feature.when_stale,
                    requested: check.requested,
                    stale_since,
                };
                known.answer(&question, feature, check.license_arn.as_ref(), now)
            });
            answers.collect()
        };
        let refused = || {
            let refuse = |feature: &&Arc<FeatureFacts>| {
                refusal(feature.id.clone(), Some(feature.kind), Reason::UnknownCustomer)
            };
            features.iter().map(refuse).collect()
        };
        let customers = &self.kept.customers;
        let find = |id: &CustomerId| customers.find(id, catalogue.generation, now, judge);
        match find(customer) {
            Found::Answer(answers) => return Ok(answers),
            Found::Alias(id) => {
                if let Found::Answer(answers) = find(&id) {
                    return Ok(answers);
                }
            }
            Found::Nothing => {}
        }
        let marks = customers.marks();
        let facts = Arc::clone(&catalogue.facts);
        let Some(facts) = self.store.customer_facts(customer.clone(), facts, now).await? else {
            return Ok(refused());
        };
        let id = facts.id.clone();
        let known = customer::Known::new(facts, catalogue.generation);
        let answers = judge(&known);
        customers.keep(customer, &id, known, &marks);
        Ok(answers)
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>, StoreError> {
        let kept = &self.kept;
        if let Some(catalogue) = &*kept.catalogue.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(catalogue));
        }
        loop {
            let generation = kept.customers.generation();
            let facts = Arc::new(self.store.catalogue_facts().await?);
            let mut slot = kept.catalogue.write().unwrap_or_else(PoisonError::into_inner);
            // What changed while it was read makes it old.
            if kept.customers.generation() == generation {
                let catalogue = Arc::new(Catalogue { generation, facts });
                *slot = Some(Arc::clone(&catalogue));
                return Ok(catalogue);
            }
        }
    }

    /// Returns since when what is known may be old, where that is longer than it may be. Entitlements that cannot be
    /// asked for make it old; a queue that cannot be read does only where nothing else has asked AWS since.
    fn stale_since(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = if self.health.failing("entitlements").is_some() {
            self.health.last_ok("entitlements")
        } else {
            self.health.failing("queue")?;
            let parts = ["queue", "entitlements", "agreements"];
            parts.into_iter().filter_map(|part| self.health.last_ok(part)).max()
        };
        let known = asked.max(self.asked_before)?;
        (now.duration_since(known) > self.stale_after).then_some(known)
    }
}

impl Kept {
    /// Takes over what a commit changed.
    fn take(&self, news: CommitNews<'_>) {
        let changes = match news {
            CommitNews::Prepared(changes) => return self.customers.expect(&changes.used),
            CommitNews::RolledBack(changes) => return self.customers.expect_no_more(&changes.used),
            CommitNews::Committed(changes) => changes,
        };
        if changes.catalogue {
            let mut slot = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
            self.customers.next_generation();
            *slot = None;
        }
        for customer in &changes.customers {
            self.customers.forget(customer);
        }
        for used in &changes.used {
            self.customers.add(used);
        }
    }
}
