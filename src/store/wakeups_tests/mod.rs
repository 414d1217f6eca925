//! Whom a commit wakes: by verb, and rule by rule.

mod rules;
mod verbs;

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::test_database::open_store;
use super::*;
use crate::domain::event::EventType;
use crate::domain::feature::{Feature, FeatureKind, WhenStale};
use crate::domain::notification::wire::{Delivery, read};
use crate::domain::product::Dimension;
use crate::domain::reconciliation::{MaxEndings, Patience};
use crate::domain::{
    AwsIds, BuyerRef, CustomerId, CustomerIdentifier, DimensionKey, EntityId, FeatureId, PlanId,
    ProductCode,
};

/// A store, with everybody who waits for it.
struct House {
    _folder: tempfile::TempDir,
    store: Store,
    waiting: Vec<(Waiter, Wakeup)>,
    now: Timestamp,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let waiting = Waiter::ALL.map(|waiter| (waiter, store.wakeups().of(waiter)));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        Self { _folder: folder, store, waiting: waiting.into(), now }
    }

    /// Asserts whom something woke.
    async fn wakes<T: Debug, E: Debug>(
        &mut self,
        what: &str,
        done: impl Future<Output = Result<T, E>>,
        whom: &[Waiter],
    ) -> T {
        let done = done.await.unwrap();
        self.woke(what, whom);
        done
    }

    /// Asserts that something is refused and wakes nobody.
    async fn wakes_nobody<T: Debug, E>(
        &mut self,
        what: &str,
        refused: impl Future<Output = Result<T, E>>,
    ) {
        assert!(refused.await.is_err(), "{what} is refused");
        self.woke(what, &[]);
    }

    /// Forgets who was woken so far.
    fn forget(&mut self) {
        for (_, wakeup) in &mut self.waiting {
            wakeup.arm();
        }
    }

    fn woke(&mut self, what: &str, whom: &[Waiter]) {
        let mut woken = Vec::new();
        for (waiter, wakeup) in &mut self.waiting {
            if wakeup.is_woken() {
                woken.push(*waiter);
                wakeup.arm();
            }
        }
        assert_eq!(woken, whom, "whom {what} wakes");
    }
}

fn listing() -> Listing {
    Listing {
        entity_id: EntityId::new("prod-1"),
        product_code: Some(ProductCode::new("code")),
        owner: None,
        title: "Thing".into(),
        visibility: "Public".into(),
        dimensions: vec![Dimension {
            key: DimensionKey::new("gb"),
            name: "GB".into(),
            unit: None,
            types: vec!["ExternallyMetered".into()],
            plan_id: None,
            removed_at: None,
        }],
        problems: Vec::new(),
        document: json!({}),
    }
}

pub(super) fn import(plan: &str) -> ImportProduct {
    ImportProduct {
        product_id: None,
        listing: listing(),
        plans: BTreeMap::new(),
        usage_plan: Some(PlanId::new(plan)),
        features: BTreeMap::new(),
    }
}

fn told(number: u32, action: &str, buyer: &str, at: Timestamp) -> Incoming {
    let message = json!({"action": action, "customer-identifier": buyer, "product-code": "code"});
    let body = json!({
        "Type": "Notification", "MessageId": format!("sns-{number}"), "TopicArn": "arn:aws:sns:us-east-1:1:t",
        "Message": message.to_string(), "Timestamp": at.to_string(),
    })
    .to_string();
    let delivery = Delivery { body: &body, transport_id: "sqs", sent_at: at };
    Incoming::Notification(Box::new(read(delivery).unwrap()))
}

fn feature(id: &str) -> FeatureChange {
    FeatureChange::from(Feature {
        id: FeatureId::new(id),
        name: id.into(),
        kind: FeatureKind::Boolean,
        unit: None,
        dimensions: BTreeMap::new(),
        when_stale: WhenStale::default(),
    })
}

fn customer(id: &str, aws: AwsIds) -> ProvisionCustomer {
    ProvisionCustomer { id: CustomerId::new(id), name: None, email: None, aws, metadata: None }
}

fn named(buyer: &str) -> AwsIds {
    AwsIds { customer_identifier: Some(CustomerIdentifier::new(buyer)), ..AwsIds::default() }
}

fn look(buyer: &str, at: Timestamp) -> Observation {
    let buyer = BuyerRef::CustomerIdentifier(CustomerIdentifier::new(buyer));
    let entries = vec![ObservedBuyer { buyer, settles: None, answer: None }];
    Observation { product_code: ProductCode::new("code"), observed_at: at, entries }
}

fn patience() -> Patience {
    Patience {
        second_look: SignedDuration::from_secs(10),
        expiry_grace: SignedDuration::from_hours(1),
        max_endings: MaxEndings::default(),
    }
}
