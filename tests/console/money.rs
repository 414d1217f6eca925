//! What pages say of units that may not be billed: how many, until when, and what was done about them.

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order};
use marketd::sandbox::{Fault, FaultKind};
use serde_json::json;

use super::words::{connect, send};
use crate::support::world::{World, eventually};

const BUYER: &str = "123456789012";

/// Has a buyer of a listing use so many units of it.
pub(super) async fn uses(world: &World, title: &str, units: u32) {
    let product = world.product(title);
    let dimension = product.dimensions.iter().find(|it| product.meters(&it.key)).unwrap();
    let event = json!({"id": format!("e-{title}"), "customer_id": "acme", "product_id": product.entity_id,
        "dimension": dimension.key, "quantity": units});
    let taken = world.post("/v1/usage", json!({"events": [event]})).await;
    assert_eq!(taken["accepted"], 1, "{taken}");
}

#[tokio::test]
async fn who_holds_nothing_any_more_is_no_buyer_who_pays() {
    let world = World::in_mid_month().await;
    let order = || Order::of(world.product("Acme Insight").product_code).with("basic", 1);
    let counts = async |buyers: u64| {
        eventually("the buyers to be counted", async || {
            let status = world.get("/v1/status").await;
            let counts = &status["counts"];
            let is_said = status["problems"].to_string().contains("unclaimed_buyers");
            let seen = (&counts["unclaimed"]["count"], &counts["unclaimed_buyers"]["count"]);
            (seen == (&json!(1), &json!(buyers)) && is_said == (buyers > 0)).then_some(())
        })
        .await;
    };
    world.act(BUYER, Action::Purchase(order()));
    eventually("the buyer", async || (world.list("/v1/customers").await.len() == 1).then_some(()))
        .await;
    world.sandbox().clock().advance(SignedDuration::from_hours(2)).unwrap();
    counts(1).await;
    world.act(BUYER, Action::Cancel(order()));
    eventually("the end to begin", async || {
        let held = world.list("/v1/subscriptions").await;
        (held[0]["status"] != "active").then_some(())
    })
    .await;
    world.sandbox().clock().advance(SignedDuration::from_hours(3)).unwrap();
    counts(0).await;
    world.stop().await;
}

#[tokio::test]
async fn whatever_stops_the_billing_says_how_much_waits_and_until_when() {
    let world = World::in_mid_month().await;
    world.put("/v1/customers/acme", json!({"aws": {"account_id": BUYER}})).await;
    connect(&world).await;
    world.act(
        BUYER,
        Action::Purchase(Order::of(world.product("Acme Insight").product_code).with("basic", 1)),
    );
    eventually("the subscription", async || {
        (world.list("/v1/subscriptions?customer_id=acme").await.len() == 1).then_some(())
    })
    .await;
    world.arm(Fault {
        operation: "BatchMeterUsage".into(),
        kind: FaultKind::Deny,
        times: None,
        one_in: None,
        amount: None,
    });
    uses(&world, "Acme Insight", 5).await;
    world.sandbox().clock().advance(SignedDuration::from_hours(2)).unwrap();
    let waits = "5 units wait; AWS takes the first until 2026-11-11 09:00 UTC";
    eventually("the failure to be said", async || {
        let page = world.get_text("/").await;
        let failing = page.split("<li class=\"money\">").any(|it| {
            it.contains("metering is failing")
                && it.contains(waits)
                && it.contains("Nothing is billed")
        });
        failing.then_some(())
    })
    .await;

    let (status, _) = send(&world, "/integration/remove", &[]).await;
    assert_eq!(status, 303);
    let page = world.get_text("/").await;
    let tile = page.split("Waiting in the queue").nth(1).unwrap().split("</dd>").next().unwrap();
    let said = "</dt><dd><span class=\"hint\">not asked: the integration was removed</span>";
    assert_eq!(tile, said);
    assert!(page.contains(waits), "{page}");
    let parts = page.split("id=\"parts\"").nth(1).unwrap();
    for part in ["sweep", "metering", "queue"] {
        let row = parts.split(&format!("<th scope=\"row\">{part}</th>")).nth(1).unwrap();
        let row = row.split("</tr>").next().unwrap();
        assert!(row.contains(">rests<") && !row.contains("connect"), "{part}: {row}");
    }
    world.stop().await;
}
