//! Each verb wakes whom its commit concerns, and nobody else.

use super::*;
use crate::domain::plan::Audience;
use crate::domain::terms::EntitlementTerms;
use crate::domain::{AccountId, SubscriptionId};
use Waiter::{Buyers, Direct, Events, Looks, Metering, Sweep};

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
    house.wakes("an event", store.tell(EventType::PlanUpdated, &json!({}), now), &[Events]).await;
    house.wakes("the webhook's replay", store.replay_webhook(0), &[Events]).await;
    house.wakes("the webhook's next replay", store.replay_webhook(0), &[Events]).await;
    house.wakes("a pause", store.pause_webhook(now), &[Events]).await;
    house.wakes("the end of the pause", store.resume_webhook(), &[Events]).await;
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
