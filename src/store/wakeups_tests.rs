//! Each verb wakes whom its commit concerns, and nobody else.

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::domain::feature::{Feature, FeatureKind, WhenStale};
use crate::domain::notification::wire::{Delivery, read};
use crate::domain::plan::Audience;
use crate::domain::product::Dimension;
use crate::domain::reconciliation::{MaxEndings, Patience};
use crate::domain::terms::EntitlementTerms;
use crate::domain::{
    AccountId, AwsIds, BuyerRef, CustomerId, CustomerIdentifier, DimensionKey, EntityId, FeatureId,
    PlanId, ProductCode, SubscriptionId,
};
use Waiter::{Buyers, Direct, Events, Looks, Metering, Sweep};

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
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
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

fn import(plan: &str) -> ImportProduct {
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

#[tokio::test]
async fn the_catalog_wakes_whom_its_changes_concern() {
    let mut house = House::new();
    let (store, now) = (house.store.clone(), house.now);
    let (plan, flag) = (PlanId::new("pro"), FeatureId::new("flag"));
    house.wakes("a plan", store.put_plan(plan.clone(), "Pro".into(), None, now), &[Events]).await;
    let renamed = store.put_plan(plan.clone(), "Pro 2".into(), None, now);
    house.wakes("a plan's new name", renamed, &[Events]).await;
    house.wakes("a feature", store.put_feature(feature("flag"), now), &[Events]).await;
    let terms = EntitlementTerms::default();
    let put = store.put_entitlement(plan.clone(), flag.clone(), terms.clone(), now);
    house.wakes("an entitlement", put, &[Events]).await;
    let unknown = store.put_entitlement(plan.clone(), FeatureId::new("none"), terms, now);
    house.wakes_nobody("an entitlement to nothing", unknown).await;
    let removed = store.remove_entitlement(plan.clone(), flag, now);
    house.wakes("an entitlement that goes", removed, &[Events]).await;
    house
        .wakes("publishing", store.publish_plan(plan.clone(), Audience::All, now), &[Events])
        .await;
    house.wakes("archiving", store.archive_plan(plan, now), &[Events]).await;
    // Nobody was told of, so nobody is due.
    let imported = store.import_product(import("usage"), now);
    house.wakes("an import", imported, &[Sweep, Events]).await;
    let dry = ManifestRequest {
        file: store.catalogue().await.unwrap(),
        listings: BTreeMap::new(),
        audience: None,
        dry_run: true,
    };
    house.wakes("a dry run", store.apply_catalogue(dry, now), &[]).await;
    let again = store.import_product(import("other"), now);
    house.wakes("another usage plan", again, &[Sweep, Events]).await;
    house.wakes("an event", store.tell("x", json!({}), now), &[Events]).await;
    house.wakes("the webhook's replay", store.replay_webhook(0), &[Events]).await;
    house.wakes("the webhook's next replay", store.replay_webhook(0), &[Events]).await;
}

#[tokio::test]
async fn what_is_told_of_buyers_wakes_who_looks_at_them() {
    let mut house = House::new();
    let (store, now) = (house.store.clone(), house.now);
    let success = told(1, "subscribe-success", "x", now);
    let early = store.record_notifications(vec![success], now);
    house.wakes("news of a product that is not imported", early, &[]).await;
    let imported = store.import_product(import("usage"), now);
    house.wakes("its import", imported, &[Buyers, Sweep, Events]).await;
    let looked = store.apply_observation(look("x", now), patience(), now);
    let applied = house.wakes("a look that finds a sale", looked, &[Metering, Events]).await;
    assert_eq!(applied.changes, 1);
    let looked = store.apply_observation(look("x", now), patience(), now);
    house.wakes("a look that finds nothing new", looked, &[]).await;
    // The customer is made, and no subscription.
    let looked = store.apply_observation(look("y", now), patience(), now);
    let applied = house.wakes("a look at a stranger", looked, &[Events]).await;
    assert_eq!(applied.changes, 0);
    let sent = store.record_notifications(vec![told(2, "subscribe-success", "z", now)], now);
    house.wakes("news", sent, &[Buyers]).await;
    let sent = store.record_notifications(vec![told(2, "subscribe-success", "z", now)], now);
    house.wakes("the same news", sent, &[]).await;
    let due = store.due_buyers(now, 10).await.unwrap();
    let failed = |buyer: &DueBuyer| {
        (FailingBuyer { key: buyer.key.clone(), marks: Some(buyer.marks) }, "refused".to_owned())
    };
    let put_off = due.iter().map(failed).collect();
    let postponed = store.postpone_buyers(put_off, |_| SignedDuration::from_mins(5), now);
    house.wakes("a look that failed", postponed, &[Looks]).await;
    house.wakes("hastening", store.hasten_buyers(now), &[Buyers]).await;
    store
        .postpone_buyers(due.iter().map(failed).collect(), |_| SignedDuration::from_mins(5), now)
        .await
        .unwrap();
    house.woke("another look that failed", &[Looks]);
    let replayed = store.replay_notification("sns-2".into(), now);
    assert!(house.wakes("a replay", replayed, &[Buyers]).await.is_some());
    // Whoever waits for the look hears of its end, also where it found nothing.
    let due = store.due_buyers(now, 10).await.unwrap();
    let mut settled = look("z", now);
    settled.entries[0].settles =
        due.iter().find(|it| it.key.buyer == settled.entries[0].buyer).map(|it| it.marks);
    assert!(settled.entries[0].settles.is_some(), "{due:?}");
    store.apply_observation(settled.clone(), patience(), now).await.unwrap();
    house.woke("a look that settles", &[Metering, Events, Looks]);
    let ended = store.record_notifications(vec![told(3, "unsubscribe-success", "x", now)], now);
    house.wakes("an end", ended, &[Buyers]).await;
    let looked = store.apply_observation(look("x", now), patience(), now);
    house.wakes("a look that finds the end", looked, &[Metering, Events]).await;
}

#[tokio::test]
async fn what_the_seller_says_of_customers_wakes_who_has_to_know() {
    let mut house = House::new();
    let (store, now) = (house.store.clone(), house.now);
    store.import_product(import("usage"), now).await.unwrap();
    store.put_plan(PlanId::new("own"), "Own".into(), None, now).await.unwrap();
    house.woke("an import and a plan", &[Sweep, Events]);
    let provisioned = store.provision_customer(customer("acme", AwsIds::default()), now);
    house.wakes("a customer", provisioned, &[Events]).await;
    let provisioned = store.provision_customer(customer("named", named("x")), now);
    house.wakes("a customer with an AWS id", provisioned, &[Buyers, Events]).await;
    house
        .wakes_nobody("a taken id", store.provision_customer(customer("other", named("x")), now))
        .await;
    let mut direct = DirectSubscription {
        id: SubscriptionId::new("s"),
        customer_id: CustomerId::new("acme"),
        plan_id: PlanId::new("own"),
        quantity: None,
        trial: false,
        starts_at: None,
        ends_at: None,
    };
    house.wakes("a direct sale", store.put_direct(direct.clone(), now), &[Direct, Events]).await;
    house.wakes("the same once more", store.put_direct(direct.clone(), now), &[]).await;
    direct.ends_at = Some(now + SignedDuration::from_hours(1));
    house.wakes("its end ahead", store.put_direct(direct.clone(), now), &[Direct, Events]).await;
    direct.plan_id = PlanId::new("none");
    house.wakes_nobody("an unknown plan", store.put_direct(direct, now)).await;
    let later = now + SignedDuration::from_hours(2);
    house.wakes("the end", store.update_direct_statuses(later), &[Events]).await;
    let lines = vec![MappingLine {
        line: 1,
        customer_identifier: CustomerIdentifier::new("x"),
        account_id: AccountId::new("111122223333"),
    }];
    house.wakes("a mapping on trial", store.import_mapping(lines.clone(), true, now), &[]).await;
    // The name's customer gets an account; a product's buyer by it is to be looked at.
    store.import_mapping(lines, false, now).await.unwrap();
    house.woke("a mapping", &[Buyers]);
}
