//! Each rule wakes its waiter by itself: with the other rules taken away, the change that it is about still wakes.

use std::pin::Pin;

use super::*;
use crate::domain::ledger::{AgeLimits, Answer};
use crate::domain::listing::Progress;
use crate::domain::reconciliation::Unlisted;
use crate::domain::usage::{UsageEvent, UsageSubject};
use crate::domain::{ProductId, SubscriptionId};
use crate::store::catalog::brakes::{BrakeKind, hold_in};
use crate::store::engine::wakeups::{RULES, Rule};
use crate::store::facts::listings::write_progress_in;
use Waiter::{Buyers, Direct, Events, Looks, Metering, Sweep};

/// What is done once the other rules are gone.
type Act = Pin<Box<dyn Future<Output = ()>>>;

const GRACE: SignedDuration = SignedDuration::from_mins(5);
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

#[tokio::test]
async fn each_rule_wakes_by_itself() {
    for (number, rule) in RULES.iter().enumerate() {
        let mut house = House::new();
        let act = prepare(rule, &house).await;
        house.forget();
        let drop = move |connection: &Connection| {
            let mut others = (0..RULES.len()).filter(|other| *other != number);
            others.try_for_each(|other| {
                let table = RULES[other].table;
                let statement = match connection {
                    Connection::Sqlite(_) => format!("DROP TRIGGER temp.wake_{other}"),
                    Connection::Postgres(_) | Connection::Strand(_) => {
                        format!("DROP TRIGGER wake_{other} ON {table}")
                    }
                };
                connection.execute_batch(&statement).during("drop the other rules")
            })
        };
        house.store.write(drop).await.unwrap();
        act.await;
        house.woke(&format!("{} of {} ({})", rule.does, rule.table, rule.when), &[rule.wakes]);
    }
}

/// Brings a store to where a rule's change can be made, and returns what makes it. A new rule needs its case here.
async fn prepare(rule: &Rule, house: &House) -> Act {
    match rule.table {
        "buyers" => of_buyers(rule, house).await,
        "subscriptions" => of_subscriptions(rule, house).await,
        "metering_records" => of_records(rule, house).await,
        "events" | "cursors" => of_events(rule, house).await,
        _ => of_listings(rule, house).await,
    }
}

fn no_case(rule: &Rule) -> ! {
    panic!("no case for {} of {}, which wakes {:?}", rule.does, rule.table, rule.wakes)
}

async fn of_buyers(rule: &Rule, house: &House) -> Act {
    let (store, now) = (house.store.clone(), house.now);
    match (rule.does, rule.table, rule.wakes) {
        ("INSERT", "buyers", Buyers) => {
            imported(house).await;
            Box::pin(async move { hear(&store, "subscribe-success", now).await })
        }
        ("UPDATE OF due_at_ms", "buyers", Buyers) => {
            imported(house).await;
            hear(&store, "subscribe-success", now).await;
            put_off(&store, now).await;
            Box::pin(async move { store.hasten_buyers(now).await.unwrap() })
        }
        ("UPDATE OF due_at_ms", "buyers", Looks) => {
            imported(house).await;
            hear(&store, "subscribe-success", now).await;
            Box::pin(async move { put_off(&store, now).await })
        }
        _ => no_case(rule),
    }
}

async fn of_listings(rule: &Rule, house: &House) -> Act {
    let (store, now) = (house.store.clone(), house.now);
    match (rule.does, rule.table, rule.wakes) {
        ("INSERT", "products", Sweep) => {
            Box::pin(async move { drop(store.import_product(import("usage"), now).await.unwrap()) })
        }
        ("UPDATE OF usage_plan_id", "products", Sweep) => {
            imported(house).await;
            Box::pin(async move { drop(store.import_product(import("other"), now).await.unwrap()) })
        }
        ("UPDATE OF plan_id", "dimensions", Sweep) => {
            store.import_product(contract("small"), now).await.unwrap();
            Box::pin(
                async move { drop(store.import_product(contract("large"), now).await.unwrap()) },
            )
        }
        ("DELETE", "agreement_listings", Sweep) => {
            imported(house).await;
            let listed = Progress { whole_at: Some(now), ..Progress::default() };
            let write = move |connection: &Connection| {
                write_progress_in(connection, &ProductCode::new("code"), listed, now)
            };
            store.write(write).await.unwrap();
            Box::pin(async move { drop(store.import_product(import("usage"), now).await.unwrap()) })
        }
        ("UPDATE OF confirmed_at_ms", "brakes", Sweep) => {
            let product = imported(house).await;
            let (held, unlisted) = (product.clone(), Unlisted { live: 50, unlisted: 40, ended: 0 });
            let hold = move |connection: &Connection| {
                hold_in(connection, &held, BrakeKind::Subscriptions, unlisted, 20, now)
            };
            store.write(hold).await.unwrap();
            Box::pin(async move {
                assert_eq!(store.confirm_endings(product, now).await.unwrap(), Some(true));
            })
        }
        _ => no_case(rule),
    }
}

async fn of_subscriptions(rule: &Rule, house: &House) -> Act {
    let (store, now) = (house.store.clone(), house.now);
    match (rule.does, rule.table, rule.wakes) {
        ("INSERT", "subscriptions", Direct) => {
            let sale = sale(house).await;
            Box::pin(async move { drop(store.put_direct(sale, now).await.unwrap()) })
        }
        ("UPDATE OF starts_at_ms, ends_at_ms, status", "subscriptions", Direct) => {
            let mut sale = sale(house).await;
            store.put_direct(sale.clone(), now).await.unwrap();
            sale.ends_at = Some(now + SignedDuration::from_hours(1));
            Box::pin(async move { drop(store.put_direct(sale, now).await.unwrap()) })
        }
        ("INSERT", "subscriptions", Metering) => {
            imported(house).await;
            hear(&store, "subscribe-success", now).await;
            Box::pin(async move { see(&store, now).await })
        }
        (
            "UPDATE OF customer_id, plan_id, status, starts_at_ms, ends_at_ms, ended_at_ms, renewed_by",
            "subscriptions",
            Metering,
        ) => {
            subscribed(house).await;
            hear(&store, "unsubscribe-success", now).await;
            Box::pin(async move { see(&store, now).await })
        }
        _ => no_case(rule),
    }
}

async fn of_records(rule: &Rule, house: &House) -> Act {
    let store = house.store.clone();
    match (rule.does, rule.table, rule.wakes) {
        ("UPDATE OF state", "metering_records", Metering) => {
            let (record, now) = answered(house, refused()).await;
            Box::pin(async move { decide(&store, record, Resolution::Retry, now).await })
        }
        ("UPDATE OF carried_out", "metering_records", Metering) => {
            let (record, now) = answered(house, refused()).await;
            Box::pin(async move { decide(&store, record, Resolution::CarryForward, now).await })
        }
        ("UPDATE OF next_attempt_at_ms", "metering_records", Metering) => {
            let (_, now) = answered(house, Answer::Unprocessed).await;
            Box::pin(async move { assert_eq!(store.make_all_due(now).await.unwrap(), 1) })
        }
        _ => no_case(rule),
    }
}

async fn of_events(rule: &Rule, house: &House) -> Act {
    let (store, now) = (house.store.clone(), house.now);
    match (rule.does, rule.table, rule.wakes) {
        ("INSERT", "events", Events) => {
            Box::pin(
                async move { store.tell(EventType::PlanUpdated, &json!({}), now).await.unwrap() },
            )
        }
        ("INSERT", "cursors", Events) => {
            Box::pin(async move { assert_eq!(store.replay_webhook(0).await.unwrap(), 0) })
        }
        ("UPDATE OF paused_at_ms", "cursors", Events) => {
            store.replay_webhook(0).await.unwrap();
            Box::pin(async move { store.pause_webhook(now).await.unwrap() })
        }
        ("UPDATE OF turn", "cursors", Events) => {
            store.replay_webhook(0).await.unwrap();
            Box::pin(async move { assert_eq!(store.replay_webhook(0).await.unwrap(), 0) })
        }
        _ => no_case(rule),
    }
}

async fn imported(house: &House) -> ProductId {
    house.store.import_product(import("usage"), house.now).await.unwrap().id
}

/// Makes the import of a contract whose dimension is sold as some plan.
fn contract(plan: &str) -> ImportProduct {
    let mut import = import("usage");
    import.listing.dimensions.push(Dimension {
        key: DimensionKey::new("seats"),
        name: "Seats".into(),
        unit: None,
        types: vec!["Entitled".into()],
        plan_id: None,
        removed_at: None,
    });
    import.plans = BTreeMap::from([(DimensionKey::new("seats"), PlanId::new(plan))]);
    import
}

async fn sale(house: &House) -> DirectSubscription {
    let (store, now) = (&house.store, house.now);
    store.put_plan(PlanId::new("own"), "Own".into(), None, now).await.unwrap();
    store.provision_customer(customer("acme", AwsIds::default()), now).await.unwrap();
    DirectSubscription {
        id: SubscriptionId::new("s"),
        customer_id: CustomerId::new("acme"),
        plan_id: PlanId::new("own"),
        quantity: None,
        trial: false,
        starts_at: None,
        ends_at: None,
    }
}

async fn hear(store: &Store, action: &str, now: Timestamp) {
    let number = if action == "subscribe-success" { 1 } else { 2 };
    store.record_notifications(vec![told(number, action, "x", now)], now).await.unwrap();
}

async fn see(store: &Store, now: Timestamp) {
    let applied = store.apply_observation(look("x", now), patience(), now).await.unwrap();
    assert_eq!(applied.changes, 1);
}

async fn put_off(store: &Store, now: Timestamp) {
    let due = store.due_buyers(now, 10).await.unwrap();
    let failing = due
        .iter()
        .map(|it| {
            let buyer = FailingBuyer { key: it.key.clone(), marks: Some(it.marks) };
            (buyer, "refused".to_owned())
        })
        .collect();
    store.postpone_buyers(failing, |_| SignedDuration::from_mins(5), now).await.unwrap();
}

async fn subscribed(house: &House) {
    let (store, now) = (&house.store, house.now);
    imported(house).await;
    store.provision_customer(customer("acme", named("x")), now).await.unwrap();
    hear(store, "subscribe-success", now).await;
    see(store, now).await;
}

fn refused() -> Answer {
    Answer::Refused { code: "InvalidUsageDimensionException".into(), message: "no".into() }
}

/// Sends one record, and returns it and the time at which AWS gave this answer.
async fn answered(house: &House, answer: Answer) -> (i64, Timestamp) {
    let (store, now) = (&house.store, house.now);
    subscribed(house).await;
    let gb = UsageEvent {
        id: "e".into(),
        customer_id: CustomerId::new("acme"),
        subject: UsageSubject::Dimension {
            product_id: ProductId::new("prod-1"),
            dimension: DimensionKey::new("gb"),
        },
        quantity: "1".parse().unwrap(),
        timestamp: None,
        license_arn: None,
        tags: BTreeMap::new(),
    };
    let ages = AgeLimits { window: WINDOW, sending: GRACE, max_age: WINDOW };
    assert_eq!(store.append_usage(vec![gb], ages, now).await.unwrap().accepted, 1);
    let later = now + SignedDuration::from_hours(2);
    let policy = ClosingPolicy {
        grace: GRACE,
        window: WINDOW,
        region: "us-east-1".into(),
        zero_usage: false,
    };
    assert_eq!(store.close_hours(policy, later).await.unwrap().frozen, 1);
    let sendable = store.records_to_send(WINDOW, 10, later).await.unwrap();
    let attempts =
        store.begin_attempts(sendable.iter().map(|it| it.id).collect(), later).await.unwrap();
    let [attempt] = attempts[..] else { panic!("one record is sent: {attempts:?}") };
    store.record_outcomes(vec![(attempt, answer)], later).await.unwrap();
    (attempt.record, later)
}

async fn decide(store: &Store, record: i64, resolution: Resolution, now: Timestamp) {
    store.resolve_record(record.to_string(), resolution, "why".into(), now).await.unwrap();
}
