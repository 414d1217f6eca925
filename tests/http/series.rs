//! What a customer used over time, as a chart shows it.

use super::*;

#[tokio::test]
async fn a_series_has_each_step_once_and_adds_up_to_what_was_reported() {
    let world = World::in_mid_month().await;
    world.put("/v1/features/calls", json!({"name": "Calls", "type": "metered"})).await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/plans/own/entitlements/calls", json!({"limit": 1000, "reset": "month"})).await;
    world.post("/v1/plans/own/publish", json!({})).await;
    world.put("/v1/customers/acme", json!({})).await;
    let sale =
        json!({"customer_id": "acme", "plan_id": "own", "starts_at": "2026-11-01T00:00:00Z"});
    world.put("/v1/subscriptions/s", sale).await;
    let used = [
        ("2026-11-09T23:10:00Z", "1.5"),
        ("2026-11-10T07:10:00Z", "2"),
        ("2026-11-10T07:50:00Z", "4"),
        ("2026-11-10T08:00:00Z", "8"),
    ];
    let events: Vec<Value> = used
        .iter()
        .map(|(at, quantity)| {
            json!({"id": at, "customer_id": "acme", "feature_id": "calls", "quantity": quantity, "timestamp": at})
        })
        .collect();
    let taken = world.post("/v1/usage", json!({"events": events})).await;
    assert_eq!(taken["accepted"], 4, "{taken}");

    let of = "/v1/usage/series?customer_id=acme&feature_id=calls";
    let by_day =
        world.get(&format!("{of}&since=2026-11-08T12:00:00Z&until=2026-11-11T00:00:00Z")).await;
    let expected = json!([
        {"at": "2026-11-08T00:00:00Z", "quantity": "0"},
        {"at": "2026-11-09T00:00:00Z", "quantity": "1.5"},
        {"at": "2026-11-10T00:00:00Z", "quantity": "14"},
    ]);
    assert_eq!(by_day["items"], expected, "{by_day}");
    let by_hour = world
        .get(&format!("{of}&by=hour&since=2026-11-10T06:00:00Z&until=2026-11-10T09:00:00Z"))
        .await;
    let expected = json!([
        {"at": "2026-11-10T06:00:00Z", "quantity": "0"},
        {"at": "2026-11-10T07:00:00Z", "quantity": "6"},
        {"at": "2026-11-10T08:00:00Z", "quantity": "8"},
    ]);
    assert_eq!(by_hour["items"], expected, "{by_hour}");
    let lately = world.get(of).await;
    assert!(
        lately["items"].as_array().unwrap().len() >= 30,
        "thirty days if nothing is said: {lately}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_series_of_what_is_not_there_is_refused() {
    let world = World::in_mid_month().await;
    world.put("/v1/features/calls", json!({"name": "Calls", "type": "metered"})).await;
    world.put("/v1/customers/acme", json!({})).await;
    let long = "/v1/usage/series?customer_id=acme&feature_id=calls&by=hour&since=2026-01-01T00:00:00Z&until=2026-11-10T00:00:00Z";
    let rows: Vec<Refusal<'_>> = vec![
        (Method::GET, long, None, 400, "bad-request", "31 days"),
        (
            Method::GET,
            "/v1/usage/series?customer_id=acme&feature_id=none",
            None,
            404,
            "not-found",
            "feature none",
        ),
        (
            Method::GET,
            "/v1/usage/series?customer_id=nobody&feature_id=calls",
            None,
            404,
            "not-found",
            "customer nobody",
        ),
        (Method::GET, "/v1/usage/series?customer_id=acme", None, 400, "bad-request", "feature_id"),
        (Method::GET, "/v1/usage/series?product_id=none", None, 404, "not-found", "product none"),
        (
            Method::GET,
            "/v1/usage/series?customer_id=acme&feature_id=calls&product_id=p",
            None,
            400,
            "bad-request",
            "product_id",
        ),
    ];
    check_refusals(&world, rows).await;
    world.stop().await;
}

#[tokio::test]
async fn a_series_of_all_customers_sums_what_each_used_by_product_or_by_feature() {
    let world = World::in_mid_month().await;
    let product = world.product("Acme Stream");
    let dimension = &product.dimensions.iter().find(|it| product.meters(&it.key)).unwrap().key;
    world.put("/v1/features/calls", json!({"name": "Calls", "type": "metered"})).await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/plans/own/entitlements/calls", json!({"limit": 1000, "reset": "month"})).await;
    world.post("/v1/plans/own/publish", json!({})).await;
    let (mut events, at) = (Vec::new(), "2026-11-10T07:10:00Z");
    for (customer, calls) in [("acme", "1.5"), ("globex", "2")] {
        world.put(&format!("/v1/customers/{customer}"), json!({})).await;
        let sale =
            json!({"customer_id": customer, "plan_id": "own", "starts_at": "2026-11-01T00:00:00Z"});
        world.put(&format!("/v1/subscriptions/{customer}"), sale).await;
        events.push(json!({"id": customer, "customer_id": customer, "feature_id": "calls",
            "quantity": calls, "timestamp": at}));
    }
    // These have bought nothing yet: it waits, and counts at once.
    for (customer, units) in [("initech", 3), ("umbrella", 4)] {
        world.put(&format!("/v1/customers/{customer}"), json!({})).await;
        events
            .push(json!({"id": customer, "customer_id": customer, "product_id": product.entity_id,
            "dimension": dimension, "quantity": units, "timestamp": at}));
    }
    let taken = world.post("/v1/usage", json!({"events": events})).await;
    assert_eq!(taken["accepted"], 4, "{taken}");

    let day = "since=2026-11-10T00:00:00Z&until=2026-11-11T00:00:00Z";
    let of_day = async |filter: &str| {
        let series = world.get(&format!("/v1/usage/series?{day}{filter}")).await;
        assert_eq!(series["items"].as_array().unwrap().len(), 1, "{series}");
        series["items"][0]["quantity"].as_str().unwrap().to_owned()
    };
    let product_id = &product.entity_id;
    assert_eq!(of_day("").await, "10.5");
    assert_eq!(of_day("&feature_id=calls").await, "3.5");
    assert_eq!(of_day(&format!("&product_id={product_id}")).await, "7");
    let by_hour = format!("/v1/usage/series?by=hour&{day}");
    let hours = world.get(&by_hour).await;
    assert_eq!(hours["items"][7]["quantity"], "10.5", "{hours}");
    let lately = world.get("/v1/usage/series").await;
    let days = lately["items"].as_array().unwrap().len();
    assert!((14..=15).contains(&days), "two weeks if nothing is said: {lately}");

    // What waited is billed once somebody bought it, and counts as often as before.
    world.put("/v1/customers/initech", json!({"aws": {"account_id": "123456789012"}})).await;
    world.act("123456789012", Action::Subscribe(Order::of(&product.product_code)));
    eventually("what waited to be the subscription's", async || {
        let held = world.list("/v1/customers/initech/subscriptions").await;
        let usage = world.get("/v1/usage/initech").await;
        let arn = held.first()?["license_arn"].clone();
        (usage["metering_record"]["license_arn"] == arn).then_some(())
    })
    .await;
    assert_eq!(of_day("").await, "10.5");
    assert_eq!(of_day(&format!("&product_id={product_id}")).await, "7");
    world.stop().await;
}
