//! Once AWS takes other keys, everything that waits goes on within ten seconds: metering, the queue and the catalogue.

use std::time::Duration;

use marketd::sandbox::market::{Action, Order};
use marketd::sandbox::{Fault, FaultKind, SessionEnd};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::renewal::{
    PROMPTLY, accept, billed, buy_and_use, credentials_part, end_sessions, shared_file, write_key,
};
use super::support::world::{World, eventually};

/// How often listings are looked at: seldom enough that only whoever is woken is prompt.
const SELDOM: (&str, &str) = ("MARKETD__CATALOG__SYNC_INTERVAL", "20s");

async fn part_is_well(world: &World, part: &str) -> bool {
    world.get("/v1/integration").await["parts"][part]["ok"] != false
}

/// How often AWS was asked who we are, and did not know.
fn asked_in_vain(world: &World) -> u64 {
    let calls = world.sandbox().calls().into_iter();
    let calls = calls.filter(|it| it.operation == "GetCallerIdentity" && it.outcome != "ok");
    calls.map(|it| it.count).sum()
}

#[tokio::test]
async fn metering_queue_and_catalogue_go_on_within_ten_seconds_of_new_keys() {
    let (file, mut settings) = shared_file("AKIAOLD");
    settings.push(SELDOM);
    let world = World::with_imported_catalog(&settings).await;
    accept(&world, "AKIANEW");
    end_sessions(&world, SessionEnd::Expired);
    buy_and_use(&world, "700000000001").await;
    eventually("that all three wait", async || {
        for part in ["metering", "queue", "catalog"] {
            if part_is_well(&world, part).await {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert!(!credentials_part(&world).await.0);
    // The longest pause has begun a moment ago.
    let asked = asked_in_vain(&world);
    eventually("another question", async || (asked_in_vain(&world) > asked).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    write_key(&file, "AKIANEW");
    let replaced = Instant::now();
    let queue = async {
        eventually("an empty queue", async || world.queue_is_empty().then_some(())).await;
        replaced.elapsed()
    };
    let metering = async {
        assert_eq!(billed(&world, "700000000001").await, 1);
        replaced.elapsed()
    };
    let catalogue = async {
        eventually("the catalogue", async || part_is_well(&world, "catalog").await.then_some(()))
            .await;
        replaced.elapsed()
    };
    let (queue, metering, catalogue) = tokio::join!(queue, metering, catalogue);
    let longest = queue.max(metering).max(catalogue);
    assert!(longest < PROMPTLY, "queue {queue:?}, metering {metering:?}, catalogue {catalogue:?}");
    assert!(longest > Duration::from_secs(3), "AWS was not asked before its time: {longest:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_only_a_sweep_asks_is_asked_again_though_no_sweep_is_due() {
    let world = World::with_imported_catalog(&[]).await;
    world.arm(Fault {
        operation: "GetEntitlements".into(),
        kind: FaultKind::RevokedCredentials,
        times: None,
        one_in: None,
        amount: None,
    });
    let role = json!({"role_arn": "arn:aws:iam::111122223333:role/marketd"});
    world.put("/v1/integration", role).await;
    eventually("that no sweep gets through", async || {
        (!part_is_well(&world, "entitlements").await).then_some(())
    })
    .await;
    eventually("that an operation refuses us", async || {
        (!credentials_part(&world).await.0).then_some(())
    })
    .await;
    world.sandbox().disarm();
    let disarmed = Instant::now();
    eventually("a sweep", async || part_is_well(&world, "entitlements").await.then_some(())).await;
    assert!(disarmed.elapsed() < PROMPTLY, "{:?}", disarmed.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn whoever_connects_anew_waits_for_no_poller_that_has_backed_off() {
    let world = World::with_imported_catalog(&[("MARKETD__QUEUE__POLLERS", "1")]).await;
    let polled_in_vain = async || {
        let shown = world.get("/v1/integration").await;
        shown["calls"]["ReceiveMessage"]["last_error_at"].as_str().map(str::to_owned)
    };
    let (status, _) = world.call(Method::DELETE, "/v1/integration?confirm=true", None).await;
    assert_eq!(status, 200);
    // After the fifth the poller waits for eight seconds at least.
    let mut last = None;
    for _ in 0..5 {
        last = eventually("another poll in vain", async || {
            let polled = polled_in_vain().await;
            (polled != last).then_some(polled)
        })
        .await;
    }
    let insight = world.market(|market, _| {
        market.products().find(|it| it.title == "Acme Insight").unwrap().clone()
    });
    let order = Order::of(&insight.product_code).with("pro", 1);
    world.market(|market, now| market.act(now, "700000000001", Action::Purchase(order))).unwrap();
    let role = json!({"role_arn": "arn:aws:iam::111122223333:role/marketd"});
    let asked = Instant::now();
    world.put("/v1/integration", role).await;
    eventually("an empty queue", async || world.queue_is_empty().then_some(())).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    world.stop().await;
}
