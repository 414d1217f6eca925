//! A seller with plans of their own, and what access checks are asked over.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketd::access::AccessChecks;
use marketd::domain::feature::FeatureKind::{self, Boolean, Metered, Numeric};
use marketd::domain::feature::{Feature, WhenStale};
use marketd::domain::plan::Audience;
use marketd::domain::terms::{Anchor, EntitlementTerms, ResetPeriod};
use marketd::domain::{
    AwsIds, CustomerId, DimensionKey, FeatureId, PlanId, Quantity, SubscriptionId,
};
use marketd::store::{DirectSubscription, ProvisionCustomer};

use super::books::Books;

pub(crate) fn limit(limit: u32) -> EntitlementTerms {
    EntitlementTerms { limit: Some(Quantity::from_units(limit)), ..EntitlementTerms::default() }
}

pub(crate) async fn checks(books: &Books) -> AccessChecks {
    let stale_after = SignedDuration::from_hours(24);
    let (store, clock) = (books.store.clone(), books.aws.clock.clone());
    AccessChecks::start(store, clock, books.health.clone(), stale_after).await.unwrap()
}

pub(crate) async fn feature(books: &Books, id: &str, kind: FeatureKind) {
    let mut dimensions = BTreeMap::new();
    if id == "calls" {
        dimensions.insert(books.product_id(), DimensionKey::new("api_calls"));
    }
    let id = FeatureId::new(id);
    let when_stale = WhenStale::Allow;
    let feature = Feature { name: id.to_string(), id, kind, unit: None, dimensions, when_stale };
    books.store.put_feature(feature, books.now()).await.unwrap();
}

pub(crate) async fn grant(books: &Books, plan: &str, feature: &str, terms: EntitlementTerms) {
    let (plan, feature) = (PlanId::new(plan), FeatureId::new(feature));
    books.store.put_entitlement(plan, feature, terms, books.now()).await.unwrap();
}

pub(crate) async fn publish(books: &Books, plan: &str, to: Audience) {
    books.store.publish_plan(PlanId::new(plan), to, books.now()).await.unwrap();
}

pub(crate) async fn provision(books: &Books, id: &str, aws: AwsIds) {
    let request =
        ProvisionCustomer { id: CustomerId::new(id), name: None, email: None, aws, metadata: None };
    books.store.provision_customer(request, books.now()).await.unwrap();
}

pub(crate) fn sold(id: &str, customer: &str, plan: &str) -> DirectSubscription {
    DirectSubscription {
        id: SubscriptionId::new(id),
        customer_id: CustomerId::new(customer),
        plan_id: PlanId::new(plan),
        quantity: None,
        trial: false,
        starts_at: None,
        ends_at: None,
    }
}

/// A seller with a plan of their own, `own`, published and still empty, and the customer `acme` on it.
pub(crate) async fn shop() -> Books {
    let books = Books::open(1, "Acme Insight", 0).await;
    for (id, kind) in [("sso", Boolean), ("seats", Numeric), ("jobs", Metered), ("calls", Metered)]
    {
        feature(&books, id, kind).await;
    }
    books.store.put_plan(PlanId::new("own"), "Own".into(), None, books.now()).await.unwrap();
    provision(&books, "acme", AwsIds::default()).await;
    books.store.put_direct(sold("s1", "acme", "own"), books.now()).await.unwrap();
    books
}

pub(crate) fn monthly(of: u32, anchor: Anchor) -> EntitlementTerms {
    EntitlementTerms { reset: Some(ResetPeriod::Month), anchor, ..limit(of) }
}
