//! A database that is moved to a file and back to a PostgreSQL server: every row comes with it, and the daemon goes on.
//!
//! Left out where `MARKETD_TEST_DATABASE_URL` names no server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is left out here is said")]

#[path = "support/mod.rs"]
mod support;

use marketd::sandbox::market::{Action, Order};
use serde_json::{Value, json};
use support::database::on_server;
use support::world::{World, eventually, marketd};

/// The outcome of `marketd move`: what it says, or why it does nothing.
async fn moved(from: (&str, &str), to: &str, more: &[&str]) -> Result<Value, String> {
    let mut command = marketd();
    command.env(from.0, from.1).args(["--output", "json", "move", "--to", to]).args(more);
    let output = command.output().await.unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

/// Buyers with usage; returns the product once all of it is reported.
async fn use_it(world: &World) -> String {
    let product = world.market(|market, _| {
        market.products().find(|it| !it.pricing.has_contract()).cloned().unwrap()
    });
    for number in 0..3 {
        let account = format!("{:012}", 700_000_000_000_u64 + number);
        let order = Order::of(&product.product_code);
        world.act(&account, Action::Subscribe(order));
        let aws = json!({"account_id": account});
        world.put(&format!("/v1/customers/buyer-{number}"), json!({"aws": aws})).await;
        let event = |event: u32| {
            json!({"id": format!("{number}-{event}"), "customer_id": format!("buyer-{number}"),
                "product_id": product.entity_id, "dimension": "gb", "quantity": event})
        };
        let events: Vec<Value> = (1..=40).map(event).collect();
        world.post("/v1/usage", json!({"events": events})).await;
    }
    eventually("the subscriptions", async || {
        let list = world.get("/v1/subscriptions?status=active").await;
        (list["items"].as_array()?.len() == 3).then_some(())
    })
    .await;
    product.entity_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_goes_to_a_file_and_back_to_a_server() {
    let mut world = World::with_demo_catalog().await;
    let path = world.file("moved.db");
    let Some((url, schema)) = on_server(&world.file("marketd.db")) else {
        eprintln!("no database server is named: nothing is moved");
        return world.stop().await;
    };
    let product = use_it(&world).await;
    let before = world.get("/v1/metering/balance").await;
    let server = format!("{url}?schema={schema}");
    let from_server = ("MARKETD__DATABASE__URL", server.as_str());
    let file = path.to_str().unwrap();
    let refused = moved(from_server, file, &[]).await.unwrap_err();
    assert!(refused.contains("a daemon runs on") && !path.exists(), "{refused}");
    world.stop_daemon().await;

    let dry = moved(from_server, file, &["--dry-run"]).await.unwrap();
    assert!(!path.exists(), "{dry}");
    let there = moved(from_server, file, &[]).await.unwrap();
    assert_eq!((&there["tables"], &there["tables"]["usage_events"]), (&dry["tables"], &json!(120)));
    let refused = moved(from_server, file, &[]).await.unwrap_err();
    assert!(refused.contains("exists already"), "{refused}");

    let from_file = ("MARKETD__DATABASE__PATH", file);
    let refused =
        moved(from_file, world.file("other.db").to_str().unwrap(), &[]).await.unwrap_err();
    assert!(refused.contains("same engine"), "{refused}");
    let refused = moved(from_file, &server, &[]).await.unwrap_err();
    assert!(refused.contains("was used already"), "{refused}");
    let again = format!("{url}?schema={schema}_back");
    let back = moved(from_file, &again, &[]).await.unwrap();
    assert_eq!(back["tables"], there["tables"]);

    world.use_database(&again);
    world.start_daemon().await;
    let after = world.get("/v1/metering/balance").await;
    assert_eq!(after["reported"], before["reported"]);
    // What is numbered goes on behind what came.
    let receipt = world
        .post(
            "/v1/usage",
            json!({"events": [
                {"id": "1-1", "customer_id": "buyer-1", "product_id": product, "dimension": "gb", "quantity": 1},
                {"id": "new", "customer_id": "buyer-1", "product_id": product, "dimension": "gb", "quantity": 1},
            ]}),
        )
        .await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(1), &json!(1)), "{receipt}");
    world.stop().await;
}
