//! An answer of AWS's that lists nobody ends nobody until a person says that it is right.

use std::time::Duration;

use marketd::sandbox::market::{Action, ListingChange, Order, Product};
use marketd::sandbox::{Fault, FaultKind};
use serde_json::{Value, json};

use super::support::world::{World, eventually};

const FEW: (&str, &str) = ("MARKETD__RECONCILE__MAX_ENDINGS", "3");
const OFTEN: (&str, &str) = ("MARKETD__RECONCILE__SWEEP_INTERVAL", "200ms");
const SELDOM: (&str, &str) = ("MARKETD__RECONCILE__SWEEP_INTERVAL", "6h");

fn lists_nothing() -> Fault {
    let operation = "GetEntitlements".into();
    Fault { operation, kind: FaultKind::Empty, times: None, one_in: None, amount: None }
}

fn account(number: usize) -> String {
    format!("{:012}", 800_000_000_000 + number)
}

async fn with_status(world: &World, status: &str) -> usize {
    world.list(&format!("/v1/subscriptions?status={status}")).await.len()
}

/// So many buyers of a contract, all of whom are known.
async fn sold(world: &World, buyers: usize) -> Product {
    let insight = world.product("Acme Insight");
    for number in 0..buyers {
        let order = Order::of(&insight.product_code).with("pro", 1);
        world.act(&account(number), Action::Purchase(order));
    }
    eventually("that all are active", async || {
        (with_status(world, "active").await == buyers && world.queue_is_empty()).then_some(())
    })
    .await;
    insight
}

async fn shown(world: &World, sold: &Product) -> Value {
    let products = world.list("/v1/products").await;
    products.into_iter().find(|it| it["product_code"] == sold.product_code.as_str()).unwrap()
}

async fn held(world: &World, sold: &Product) -> Value {
    eventually("what is held back", async || {
        let held = shown(world, sold).await["held_endings"][0].clone();
        held.is_object().then_some(held)
    })
    .await
}

async fn told(world: &World, kind: &str) -> usize {
    let events = world.get("/v1/events?limit=500").await["items"].as_array().unwrap().clone();
    events.iter().filter(|event| event["type"] == kind).count()
}

#[tokio::test]
async fn an_answer_that_lists_nobody_ends_nobody_until_a_person_says_so() {
    let mut world = World::with_imported_catalog(&[FEW, OFTEN]).await;
    let insight = sold(&world, 6).await;
    world.arm(lists_nothing());
    let first = held(&world, &insight).await;
    assert_eq!((&first["what"], &first["live"]), (&json!("subscriptions"), &json!(6)));
    assert_eq!(told(&world, "product.endings_held").await, 1);
    // Many more looks change nothing.
    let asked = || world.sandbox().calls().iter().map(|it| it.count).sum::<u64>();
    let enough = asked() + 100;
    eventually("many more looks", async || (asked() > enough).then_some(())).await;
    assert_eq!(with_status(&world, "active").await, 6);
    let problems = world.get("/v1/integration").await["problems"].to_string();
    assert!(problems.contains("marketd product confirm-endings"), "{problems}");
    world.stop_daemon().await;
    let (code, summary) = world.run_once().await;
    assert_eq!(code, 1, "{summary}");
    assert!(summary["errors"].to_string().contains("confirm-endings"), "{summary}");
    world.start_daemon().await;

    world.sandbox().disarm();
    eventually("that nothing is held back", async || {
        shown(&world, &insight).await["held_endings"].is_null().then_some(())
    })
    .await;
    assert_eq!(told(&world, "product.endings_released").await, 1);
    assert_eq!(with_status(&world, "active").await, 6);

    world.arm(lists_nothing());
    held(&world, &insight).await;
    // What is told ends all the same.
    let order = Order { immediate: true, ..Order::of(&insight.product_code) };
    world.act(&account(0), Action::Cancel(order));
    eventually("the end that was told", async || {
        (with_status(&world, "active").await == 5).then_some(())
    })
    .await;
    let id = shown(&world, &insight).await["id"].as_str().unwrap().to_owned();
    let (code, out, complaint) = world.cli(&["product", "confirm-endings", &id]).await;
    assert_eq!(code, 0, "{out} {complaint}");
    eventually("that all have ended", async || {
        (with_status(&world, "active").await == 0).then_some(())
    })
    .await;
    assert_eq!(told(&world, "product.endings_confirmed").await, 1);
    assert!(shown(&world, &insight).await["held_endings"].is_null());
    world.stop().await;
}

#[tokio::test]
async fn looks_at_single_buyers_end_no_more_than_a_sweep_may() {
    let world = World::with_imported_catalog(&[FEW, SELDOM]).await;
    let insight = sold(&world, 8).await;
    world.arm(lists_nothing());
    for number in 0..8 {
        let path = format!("/v1/customers/c-{number}?wait=5s");
        world.put(&path, json!({"aws": {"account_id": account(number)}})).await;
        // Each look has its second one before the next buyer is looked at.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    held(&world, &insight).await;
    let active = with_status(&world, "active").await;
    assert!(active >= 5, "{active}: three may end within a day, whoever asks");
    world.stop().await;
}

#[tokio::test]
async fn a_listing_that_has_lost_every_dimension_is_not_believed_at_once() {
    let world = World::with_imported_catalog(&[]).await;
    let insight = world.product("Acme Insight");
    let live = |shown: &Value| {
        let dimensions = shown["dimensions"].as_array().unwrap().clone();
        dimensions.iter().filter(|it| it["removed_at"].is_null()).count()
    };
    let before = live(&shown(&world, &insight).await);
    let change = |count: usize| ListingChange {
        dimensions: Some(insight.dimensions.iter().take(count).cloned().collect()),
        ..ListingChange::default()
    };
    let relist = |count: usize| {
        world.market(|market, now| {
            market.change_listing(&insight.entity_id, change(count), now).unwrap();
        });
    };
    let id = shown(&world, &insight).await["id"].as_str().unwrap().to_owned();
    relist(0);
    for _ in 0..2 {
        let (code, _, complaint) = world.cli(&["listing", "sync", &id]).await;
        assert!(code == 1 && complaint.contains("confirm-endings"), "{complaint}");
        assert_eq!(live(&shown(&world, &insight).await), before);
        assert_eq!(held(&world, &insight).await["what"], "dimensions");
    }
    // Nor is it when somebody imports it by hand.
    let import = ["listing", "import", &insight.entity_id, "--plan", "pro=elsewhere"];
    let (code, _, complaint) = world.cli(&import).await;
    assert!(code == 1 && complaint.contains(&format!("confirm-endings {id}")), "{complaint}");
    assert_eq!(live(&shown(&world, &insight).await), before);
    assert_eq!(told(&world, "product.endings_held").await, 1);
    // The listing is whole again, but for one: that is believed.
    relist(before - 1);
    world.cli_json(&["listing", "sync", &id]).await;
    let now = shown(&world, &insight).await;
    assert_eq!((live(&now), &now["held_endings"]), (before - 1, &Value::Null));
    relist(0);
    let (code, ..) = world.cli(&["listing", "sync", &id]).await;
    assert_eq!(code, 1);
    world.cli_json(&["product", "confirm-endings", &id]).await;
    assert_eq!(live(&shown(&world, &insight).await), 0);
    // What is to be mapped anew is imported by hand.
    relist(before);
    let import = ["listing", "import", &insight.entity_id, "--plan", "pro=pro"];
    world.cli_json(&import).await;
    assert_eq!(live(&shown(&world, &insight).await), before);
    world.stop().await;
}

#[tokio::test]
async fn an_import_by_hand_alone_is_held_back_and_let_go_too() {
    let world = World::with_imported_catalog(&[]).await;
    let insight = world.product("Acme Insight");
    let id = shown(&world, &insight).await["id"].as_str().unwrap().to_owned();
    let none = ListingChange { dimensions: Some(Vec::new()), ..ListingChange::default() };
    world.market(|market, now| {
        market.change_listing(&insight.entity_id, none, now).unwrap();
    });
    let path = format!("/v1/listings/{}/import", insight.entity_id);
    let import =
        async || world.call(reqwest::Method::POST, &path, Some(json!({"plans": {}}))).await;
    let (status, problem) = import().await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:marketd:problem:endings-held")),
        "{problem}"
    );
    assert_eq!(held(&world, &insight).await["what"], "dimensions");
    world.post(&format!("/v1/products/{id}/confirm-endings"), json!({})).await;
    let (status, imported) = import().await;
    assert_eq!(status, 200, "{imported}");
    assert!(imported["held_endings"].is_null(), "{imported}");
    world.stop().await;
}
