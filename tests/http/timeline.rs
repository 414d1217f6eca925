//! A customer's timeline: all that happened to it, the newest first, also under the ids that it had before.

use jiff::Timestamp;
use marketd::sandbox::market::{Action, Order};
use serde_json::{Value, json};

use super::support::world::{World, eventually};

fn kinds(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_timeline_tells_what_happened_the_newest_first_and_under_former_ids_too() {
    let world = World::with_demo_catalog().await;
    world.put("/v1/customers/other", json!({"name": "Other"})).await;
    let product = world.product("Acme Meter");
    let account = "123456789012";
    world.act(account, Action::Subscribe(Order::of(&product.product_code)));
    let generated = eventually("the buyer as a customer", async || {
        let found = world.list(&format!("/v1/customers?account_id={account}")).await;
        found.first().map(|it| it["id"].as_str().unwrap().to_owned())
    })
    .await;
    world.put("/v1/customers/acme", json!({"name": "Acme", "aws": {"account_id": account}})).await;
    eventually("the subscription", async || {
        let held = world.list("/v1/customers/acme/subscriptions").await;
        (!held.is_empty()).then_some(())
    })
    .await;

    let page = world.get("/v1/customers/acme/timeline").await;
    let all = kinds(&page);
    assert!(all.contains(&"customer.created") && all.contains(&"subscription.created"), "{page}");
    // As times: a fraction of a second is written without zeros at its end.
    let at = |it: &Value| -> Timestamp { it["at"].as_str().unwrap().parse().unwrap() };
    let times: Vec<Timestamp> = page["items"].as_array().unwrap().iter().map(at).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{page}");
    assert!(page["items"].as_array().unwrap().iter().all(|it| it["customer_id"] != "other"));
    let by_alias = world.get(&format!("/v1/customers/{generated}/timeline")).await;
    assert_eq!(kinds(&by_alias), all);

    let mut paged = Vec::new();
    let mut path = "/v1/customers/acme/timeline?limit=1".to_owned();
    loop {
        let part = world.get(&path).await;
        paged.extend(kinds(&part).into_iter().map(str::to_owned));
        let Some(cursor) = part["next_cursor"].as_str() else { break };
        path = format!("/v1/customers/acme/timeline?limit=1&cursor={cursor}");
    }
    assert_eq!(paged, all);
    world.stop().await;
}
