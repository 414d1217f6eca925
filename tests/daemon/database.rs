//! A database that cannot be written for a while: nothing ends, nothing is lost, and it is said.

use std::time::{Duration, Instant};

use marketd::sandbox::market::{Action, Order};
use marketd::sandbox::{Fault, FaultKind};
use reqwest::Client;
use serde_json::{Value, json};

use super::slow_wire::SlowWire;
use super::support::database::on_server;
use super::support::sql::OtherWriter;
use super::support::world::{World, eventually};

const ACCOUNT: &str = "123456789012";

/// A customer who has subscribed, and of whom an access check was asked.
async fn with_a_customer() -> World {
    let world = World::with_demo_catalog().await;
    let (insight, stream) = (world.product("Acme Insight"), world.product("Acme Stream"));
    world.act(ACCOUNT, Action::Purchase(Order::of(&insight.product_code).with("basic", 1)));
    world.act(ACCOUNT, Action::Subscribe(Order::of(&stream.product_code)));
    active(&world, 2).await;
    world.put("/v1/customers/acme?wait=5s", json!({"aws": {"account_id": ACCOUNT}})).await;
    world.put("/v1/features/export", json!({"name": "Export", "type": "boolean"})).await;
    world.put("/v1/plans/basic/entitlements/export", json!({})).await;
    world.post("/v1/plans/basic/publish", json!({})).await;
    assert_eq!(world.get("/v1/customers/acme/entitlements/export").await["has_access"], true);
    world
}

async fn active(world: &World, count: usize) {
    eventually("the subscriptions", async || {
        let found = world.get("/v1/subscriptions?status=active").await;
        (found["items"].as_array()?.len() == count).then_some(())
    })
    .await;
}

fn usage(world: &World, id: &str) -> Value {
    let product_id = world.product("Acme Stream").entity_id;
    let event = json!({
        "id": id, "customer_id": "acme", "product_id": product_id, "dimension": "gb", "quantity": 1,
    });
    json!({"events": [event]})
}

async fn database_is(world: &World, ok: bool) {
    eventually("the board to say so", async || {
        let parts = world.get("/readyz").await["parts"].clone();
        (parts["database"]["ok"] == ok).then_some(())
    })
    .await;
}

/// While nothing can be written: writes are to be tried again, access checks go on, every loop has something to do.
async fn goes_on_without_writing(world: &World) {
    let stream = world.product("Acme Stream");
    world.act("223456789012", Action::Subscribe(Order::of(&stream.product_code)));
    let url = format!("{}/v1/usage", world.url());
    let answer = Client::new().post(url).json(&usage(world, "e-1")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:marketd:problem:store-unavailable", "{problem}");
    database_is(world, false).await;
    assert_eq!(world.get("/v1/customers/acme/entitlements/export").await["has_access"], true);
    // Every loop has met it by now, and none has ended the process.
    eventually("the loops to meet it", async || {
        let metrics = world.get_text("/metrics").await;
        let met = ["metering", "reconcile"].iter().filter(|part| {
            metrics.contains(&format!("marketd_store_failures_total{{part=\"{part}\"}}"))
        });
        (met.count() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_ends_nothing() {
    let mut world = with_a_customer().await;
    let Some((url, schema)) = on_server(&world.file("marketd.db")) else {
        return world.stop().await;
    };
    let wire = SlowWire::to(&url, Duration::ZERO);
    world.stop_daemon().await;
    world.use_database(&format!("{}?sslmode=disable&schema={schema}", wire.url()));
    world.start_daemon().await;
    assert_eq!(world.get("/v1/customers/acme/entitlements/export").await["has_access"], true);
    wire.be_down(true);
    let begun = Instant::now();
    goes_on_without_writing(&world).await;
    // Each part that works by the clock comes to it.
    while begun.elapsed() < Duration::from_secs(8) {
        assert_eq!(world.get("/v1/customers/acme/entitlements/export").await["has_access"], true);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    wire.be_down(false);
    recovers(&world).await;
    world.stop().await;
}

/// Begins a look at the customer, whose answer comes two seconds later.
async fn begin_a_look(world: &World) {
    world.arm(Fault {
        operation: "GetEntitlements".into(),
        kind: FaultKind::Slow,
        times: None,
        one_in: None,
        amount: Some(2_000),
    });
    world.put("/v1/customers/acme", json!({"aws": {"account_id": ACCOUNT}})).await;
}

/// Once it can be written again: everything is as if nothing had been.
async fn recovers(world: &World) {
    database_is(world, true).await;
    let receipt = world.post("/v1/usage", usage(world, "e-1")).await;
    assert_eq!(receipt["accepted"], 1, "nothing of the refused one remains: {receipt}");
    active(world, 3).await;
    assert_eq!(
        world.get("/v1/metering/balance").await["reported"].to_string().trim_matches('"'),
        "1"
    );
}

#[tokio::test]
async fn a_lock_that_somebody_else_holds_ends_nothing() {
    let world = with_a_customer().await;
    let other = OtherWriter::begin(&world.database());
    goes_on_without_writing(&world).await;
    other.end();
    recovers(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn a_lock_that_meets_a_look_under_way_and_a_pass_of_metering_ends_neither() {
    let world = with_a_customer().await;
    begin_a_look(&world).await;
    // AWS's answer comes two seconds later, and finds the lock held.
    let other = OtherWriter::begin(&world.database());
    for part in ["reconcile", "metering"] {
        let met = format!("marketd_store_failures_total{{part=\"{part}\"}}");
        eventually(&met, async || world.get_text("/metrics").await.contains(&met).then_some(()))
            .await;
    }
    world.sandbox().disarm();
    other.end();
    database_is(&world, true).await;
    let stream = world.product("Acme Stream");
    world.act("223456789012", Action::Subscribe(Order::of(&stream.product_code)));
    active(&world, 3).await;
    world.stop().await;
}

#[tokio::test]
async fn a_disk_without_room_ends_nothing() {
    let mut world = with_a_customer().await;
    if on_server(&world.database()).is_some() {
        return; // The disk is the server's.
    }
    world.stop_daemon().await;
    world.start_daemon_that_may_run_out_of_room().await;
    assert_eq!(world.get("/v1/customers/acme/entitlements/export").await["has_access"], true);
    // Who has nothing to write needs no room, so a look is under way that has.
    begin_a_look(&world).await;
    world.limit_files(Some(4_096)).await;
    goes_on_without_writing(&world).await;
    world.limit_files(None).await;
    world.sandbox().disarm();
    recovers(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn a_pass_is_refused_beside_a_daemon_that_lives_and_follows_one_that_died() {
    let mut world = World::with_settings(&[]).await;
    let (code, _, complaint) = world.cli(&["run", "--reconcile-once"]).await;
    let says_why = ["is in use by marketd run", "a daemon runs on this database"];
    assert!(code == 1 && says_why.iter().any(|it| complaint.contains(it)), "{code} {complaint}");
    world.take_daemon().kill().await.unwrap();
    let (code, summary) = world.run_once().await;
    assert_eq!(code, 0, "{summary}");
}

/// Waits until the log says that the start waits for a lock.
async fn says_that_it_waits(log: &std::path::Path) {
    eventually("the log to say so", async || {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        said.contains("the start waits for it").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_start_waits_for_a_lock_and_can_be_stopped_meanwhile() {
    let mut world = World::with_settings(&[]).await;
    if on_server(&world.database()).is_some() {
        return; // No file is locked; a start waits for its server in the tests of those.
    }
    world.stop_daemon().await;
    let other = OtherWriter::begin(&world.database());
    let log = world.file("daemon.log");
    let stopped = world.spawn_daemon_logging_to(&log);
    world.give_daemon(stopped);
    says_that_it_waits(&log).await;
    let begun = Instant::now();
    world.stop_daemon().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    let (pass, ()) = tokio::join!(world.run_once(), async {
        // Longer than SQLite waits by itself.
        tokio::time::sleep(Duration::from_secs(6)).await;
        other.end();
    });
    assert_eq!(pass.0, 0, "{}", pass.1);
    let other = OtherWriter::begin(&world.database());
    let daemon = world.spawn_daemon_logging_to(&log);
    world.give_daemon(daemon);
    says_that_it_waits(&log).await;
    other.end();
    world.is_ready().await;
    // Whoever has the database for good is no such lock.
    let begun = Instant::now();
    let (code, _, complaint) = world.cli(&["run"]).await;
    assert!(code == 1 && complaint.contains("is in use by marketd run"), "{code} {complaint}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    world.stop().await;
}
