//! The binary killed with SIGKILL again and again, under load and under AWS's faults: AWS bills every event that was
//! answered with a 2xx, once and to the unit. `MARKETD_KILLS=200 cargo test --test crash` kills it longer, and
//! `MARKETD_CHAOS_HOURS=48` has everything else go wrong for longer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is left out here is said")]

mod application;
mod backups;
mod chaos;
mod restoring;
#[path = "../support/mod.rs"]
mod support;
mod workers;

use std::time::Duration;

use application::Application;

use marketd::sandbox::market::{Action, Order};
use marketd::sandbox::{Fault, FaultKind};
use serde_json::{Value, json};
use support::world::{World, eventually};

const KILLS: u32 = 15;
const TASKS: u64 = 4;

/// Buyers one after another: each subscribes, uses, and leaves, so that its open hour is billed at once.
async fn buyers_come_and_go(
    world: &World,
    application: Application,
    task: u64,
    stop: &tokio_util::sync::CancellationToken,
) -> u64 {
    let mut rng = fastrand::Rng::with_seed(task);
    let products: Vec<_> = world.market(|market, _| {
        market.products().filter(|it| !it.pricing.has_contract()).cloned().collect()
    });
    let mut taken = 0;
    let mut number = 0;
    while !stop.is_cancelled() {
        number += 1;
        let account = format!("{:012}", 600_000_000_000 + task * 1_000_000 + number);
        let product = rng.choice(&products).unwrap();
        let order = Order::of(&product.product_code);
        let identifier = world.market(|market, now| {
            market.act(now, &account, Action::Subscribe(order.clone())).unwrap();
            market.buyer(&account).unwrap().customer_identifier.clone()
        });
        let customer = format!("buyer-{account}");
        let aws = json!({"account_id": account, "customer_identifier": identifier});
        application.put(&format!("/v1/customers/{customer}"), &json!({"aws": aws})).await;
        for report in 0..rng.u32(3..12) {
            let events: Vec<Value> = (0..rng.u32(1..5))
                .map(|event| {
                    json!({
                        "id": format!("{account}-{report}-{event}"),
                        "customer_id": customer,
                        "product_id": product.entity_id,
                        "dimension": if rng.bool() { "gb" } else { "requests" },
                        "quantity": rng.u32(0..40),
                    })
                })
                .collect();
            taken += application.report(&events).await;
        }
        world.act(&account, Action::Cancel(order));
    }
    taken
}

/// Has AWS fail in every way that the sandbox knows. What ends a whole connection, and what is believed only when it is said
/// twice, is rarer: each costs its part of the daemon a while.
fn arm(world: &World) {
    let rows = [
        ("*", FaultKind::CutAfter, 16),
        ("*", FaultKind::CutBefore, 16),
        ("*", FaultKind::Throttle, 16),
        ("*", FaultKind::Error500, 16),
        ("*", FaultKind::Garble, 16),
        ("*", FaultKind::Slow, 40),
        ("BatchMeterUsage", FaultKind::Unprocessed, 12),
        ("GetEntitlements", FaultKind::Empty, 100),
        ("SearchAgreements", FaultKind::Empty, 100),
        ("*", FaultKind::Deny, 200),
        ("*", FaultKind::ExpiredCredentials, 200),
        ("*", FaultKind::RevokedCredentials, 200),
    ];
    for (operation, kind, one_in) in rows {
        let operation = operation.to_owned();
        world.arm(Fault { operation, kind, times: None, one_in: Some(one_in), amount: None });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_bills_what_it_took() {
    let kills =
        std::env::var("MARKETD_KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    let mut world = World::with_demo_catalog().await;
    arm(&world);
    let mut daemon = world.take_daemon();
    let application = Application::of(&world);
    let stop = tokio_util::sync::CancellationToken::new();
    let mut rng = fastrand::Rng::with_seed(1);

    let load = async {
        let tasks =
            (0..TASKS).map(|task| buyers_come_and_go(&world, application.clone(), task, &stop));
        futures::future::join_all(tasks).await.into_iter().sum::<u64>()
    };
    let killing = async {
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(rng.u64(50..900))).await;
            daemon.kill().await.unwrap();
            daemon = world.spawn_daemon();
        }
        stop.cancel();
    };
    let (taken, ()) = tokio::join!(load, killing);
    world.give_daemon(daemon);
    world.sandbox().disarm();

    check_bill(&world, taken).await;
    world.stop().await;
}

/// Everything that was taken is billed, once: by the balance, and by AWS's ledger.
async fn check_bill(world: &World, taken: u64) {
    let balance = everything_billed(world).await;
    assert!(taken > 100, "a load: {taken} units");
    assert_eq!(balance["reported"], taken.to_string(), "{balance}");
    assert_eq!(balance["accepted"], taken.to_string(), "{balance}");
    assert_eq!(balance["adds_up"], true);
    assert_eq!(billed(world), taken, "AWS's ledger against what was answered with a 2xx");
}

/// Returns the balance once nothing of what was reported is left to be billed.
async fn everything_billed(world: &World) -> Value {
    eventually("everything billed", async || {
        let balance = world.get("/v1/metering/balance").await;
        (balance["pending"] == "0" && balance["reported"] != "0").then_some(balance)
    })
    .await
}

/// Returns the units in AWS's ledger, none of which is there twice.
fn billed(world: &World) -> u64 {
    world.market(|market, _| {
        let honoured = market.ledger().honoured();
        assert!(honoured.iter().all(|it| !it.billed_twice));
        let units = honoured.iter().map(|it| it.quantity.normalize().to_string());
        units.map(|it| it.parse::<u64>().unwrap()).sum()
    })
}
