//! Erasing a customer: who they are is nowhere any more, and what they used is billed all the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order, Product};
use reqwest::Method;
use serde_json::{Value, json};
use support::sql;
use support::world::{World, eventually};

const ACCOUNT: &str = "123456789012";

/// What names the customer, but for AWS's ids of it.
const NAMES: [&str; 4] = ["zyxel-corp", "Zyxel Quux", "quux@zyxel.example", "crm-4711"];

/// A seller with one customer, who has bought by AWS, has used something that is not billed yet, and is named in a message
/// that nobody can read.
async fn seller() -> (World, Product) {
    let world = World::in_mid_month().await;
    let product = world.product("Acme Stream");
    world.act(ACCOUNT, Action::Subscribe(Order::of(&product.product_code)));
    let known = json!({"name": "Zyxel Quux", "email": "quux@zyxel.example",
        "metadata": {"crm": "crm-4711"}, "aws": {"account_id": ACCOUNT}});
    world.put("/v1/customers/zyxel-corp?wait=5s", known).await;
    eventually("a subscription", async || {
        let held = world.list("/v1/customers/zyxel-corp/subscriptions").await;
        held.first().filter(|it| it["status"] == "active").map(drop)
    })
    .await;
    world.inject("a complaint of quux@zyxel.example");
    eventually("the complaint", async || {
        let kept = world.list("/v1/notifications?state=quarantined").await;
        (kept.len() == 1).then_some(())
    })
    .await;
    (world, product)
}

async fn report(world: &World, product: &Product, id: &str, customer: &str) -> Value {
    let dimension = product.dimensions.iter().find(|it| product.meters(&it.key)).unwrap();
    let event = json!({"id": id, "customer_id": customer, "product_id": product.entity_id,
        "dimension": dimension.key, "quantity": 5});
    world.post("/v1/usage", json!({"events": [event]})).await
}

/// Every cell of the database that has one of these words in it, with its table.
fn cells_with(world: &World, words: &[&str]) -> Vec<String> {
    let database = world.database();
    let mut found = Vec::new();
    for table in sql::tables(&database) {
        let rows = sql::rows(&database, &format!("SELECT * FROM {table}"));
        let cells = rows.into_iter().flatten().flatten();
        let named = cells.filter(|text| words.iter().any(|word| text.contains(word)));
        found.extend(named.map(|text| format!("{table}: {text}")));
    }
    found
}

#[tokio::test]
async fn who_they_are_is_nowhere_any_more_and_what_they_used_is_billed() {
    let (world, product) = seller().await;
    assert_eq!(report(&world, &product, "e-1", "zyxel-corp").await["accepted"], 1);
    let before = world.get("/v1/metering/balance").await;
    let held = world.list("/v1/customers/zyxel-corp/subscriptions").await.remove(0);
    assert!(!cells_with(&world, &NAMES).is_empty());

    let path = "/v1/customers/zyxel-corp";
    let (status, refused) = world.call(Method::DELETE, path, None).await;
    assert_eq!((status, &refused["subscriptions"]), (409, &json!([held["id"]])), "{refused}");
    assert_eq!(refused["type"], "urn:marketd:problem:subscriptions-live");
    assert_eq!(world.get(path).await["name"], "Zyxel Quux", "it is as it was");

    let (status, left) = world.call(Method::DELETE, &format!("{path}?force=true"), None).await;
    assert_eq!(status, 200, "{left}");
    let opaque = left["id"].as_str().unwrap();
    assert!(opaque.starts_with("erased-") && left["erased_at"].is_string(), "{left}");
    assert_eq!(left["aws"]["account_id"], ACCOUNT, "what billing needs: {left}");
    assert_eq!(world.call(Method::GET, path, None).await.0, 404);
    assert_eq!(cells_with(&world, &NAMES), Vec::<String>::new());
    let told = world.get("/v1/events?type=customer.erased").await["items"].clone();
    assert_eq!(told[0]["data"]["id"], left["id"], "{told}");
    let acted = world.list("/v1/activity").await.remove(0);
    assert_eq!(acted["operation"], "eraseCustomer");
    assert_eq!(acted["path"], format!("/v1/customers/{opaque}"));

    // The message stays, without its body, and is not read again.
    let kept = world.list("/v1/notifications?state=quarantined").await.remove(0);
    assert!(kept["body"].is_null() && kept["erased_at"].is_string(), "{kept}");
    let replay = format!("/v1/notifications/{}/replay", kept["id"].as_str().unwrap());
    let (status, problem) = world.call(Method::POST, &replay, None).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:marketd:problem:notification-erased"))
    );

    // What was used is billed; what is reported by the old id is not.
    let rejected = report(&world, &product, "e-2", "zyxel-corp").await;
    assert_eq!(rejected["rejected"][0]["code"], "unknown_customer", "{rejected}");
    assert_eq!(world.get("/v1/usage/e-1").await["customer_id"], *opaque);
    assert_eq!(world.get("/v1/metering/balance").await, before);
    world.sandbox().clock().advance(SignedDuration::from_hours(2)).unwrap();
    eventually("the bill", async || {
        let records = format!("/v1/metering/records?customer_id={opaque}&state=accepted");
        (world.list(&records).await.len() == 1).then_some(())
    })
    .await;
    let after = world.get("/v1/metering/balance").await;
    assert_eq!((&after["accepted"], &after["adds_up"]), (&json!("5"), &json!(true)), "{after}");

    // What AWS tells later reaches the same buyer, and brings no name back.
    world.act(ACCOUNT, Action::Cancel(Order::of(&product.product_code)));
    eventually("the end", async || {
        let held = world.list(&format!("/v1/customers/{opaque}/subscriptions")).await;
        held.iter().all(|it| it["status"] == "canceled").then_some(())
    })
    .await;
    assert_eq!(cells_with(&world, &NAMES), Vec::<String>::new());
    let (status, again) =
        world.call(Method::DELETE, &format!("/v1/customers/{opaque}"), None).await;
    assert_eq!((status, &again["erased_at"]), (200, &left["erased_at"]), "{again}");

    // Whoever comes back is somebody anew.
    world.act(ACCOUNT, Action::Subscribe(Order::of(&product.product_code)));
    let back = json!({"name": "Quux again", "aws": {"account_id": ACCOUNT}});
    world.put("/v1/customers/quux-2?wait=5s", back).await;
    let back = world.get(&format!("/v1/customers/{opaque}")).await;
    assert_eq!((&back["id"], &back["erased_at"]), (&json!("quux-2"), &Value::Null), "{back}");
    world.stop().await;
}

#[tokio::test]
async fn the_command_line_erases_and_says_what_is_left() {
    let (world, _) = seller().await;
    let (code, _, complaint) = world.cli(&["customer", "erase", "nobody"]).await;
    assert!(code == 1 && complaint.contains("no customer nobody"), "{complaint}");
    let (code, _, complaint) = world.cli(&["customer", "erase", "zyxel-corp"]).await;
    assert!(code == 1 && complaint.contains("has live subscriptions"), "{complaint}");
    let (code, said, _) = world.cli(&["customer", "erase", "zyxel-corp", "--force"]).await;
    assert!(
        code == 0 && said.contains("erased zyxel-corp: what billing needs stays as erased-"),
        "{said}"
    );

    // One that is a customer of the seller's own, and nobody of AWS's.
    world.put("/v1/customers/direct-1", json!({"name": "Zyxel Quux"})).await;
    let left = world.cli_json(&["customer", "erase", "direct-1"]).await;
    assert!(left["name"].is_null() && left["aws"].is_null(), "{left}");
    assert_eq!(cells_with(&world, &NAMES), Vec::<String>::new());
    world.stop().await;
}
