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
        (Method::GET, "/v1/usage/series?feature_id=calls", None, 400, "bad-request", "customer_id"),
    ];
    check_refusals(&world, rows).await;
    world.stop().await;
}
