//! Checks in bulk, and check and report in one step, as an application meets them.

use reqwest::Method;
use serde_json::{Value, json};

use super::check_refusals;
use super::support::world::World;

const CONSUME: &str = "/v1/customers/acme/entitlements/jobs/consume";

/// A daemon with the plan `own` and two customers on it, who may have so many jobs.
async fn with_jobs(limit: u32) -> World {
    let world = World::with_nothing_imported().await;
    for (feature, kind) in [("jobs", "metered"), ("sso", "boolean"), ("seats", "numeric")] {
        world.put(&format!("/v1/features/{feature}"), json!({"name": feature, "type": kind})).await;
    }
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put("/v1/plans/own/entitlements/jobs", json!({"limit": limit})).await;
    world.put("/v1/plans/own/entitlements/sso", json!({})).await;
    world.put("/v1/plans/own/entitlements/seats", json!({"limit": 2.5})).await;
    world.post("/v1/plans/own/publish", json!({})).await;
    for customer in ["acme", "beta"] {
        world.put(&format!("/v1/customers/{customer}"), json!({})).await;
        let sold = json!({"customer_id": customer, "plan_id": "own"});
        world.put(&format!("/v1/subscriptions/{customer}-own"), sold).await;
    }
    world
}

#[tokio::test]
async fn a_limit_of_two_lets_two_of_twenty_through() {
    let world = with_jobs(2).await;
    let asked = (0..20).map(|number| {
        world.call(Method::POST, CONSUME, Some(json!({"id": format!("e-{number}"), "quantity": 1})))
    });
    let mut accepted = 0;
    for (status, answer) in futures::future::join_all(asked).await {
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["has_access"], answer["accepted"], "{answer}");
        assert_eq!(answer["duplicate"], false, "{answer}");
        accepted += usize::from(answer["accepted"] == true);
    }
    assert_eq!(accepted, 2);
    let told = world.get("/v1/customers/acme/entitlements/jobs").await;
    assert_eq!((&told["usage"], &told["remaining"]), (&json!(2), &json!(0)), "{told}");
    let metrics = world.get_text("/metrics").await;
    assert!(metrics.contains("marketd_usage_events_total{outcome=\"denied\"} 18"), "{metrics}");
    world.stop().await;
}

#[tokio::test]
async fn a_consumption_answers_as_a_check_does_and_says_what_was_counted() {
    let world = with_jobs(10).await;
    let consume = async |body: Value| world.post(CONSUME, body).await;
    let first = consume(json!({"id": "a", "quantity": "2.5", "tags": {"team": "blue"}})).await;
    let expected = json!({
        "feature_id": "jobs", "type": "metered", "has_access": true, "reason": "granted", "limit": 10,
        "unlimited": false, "usage": 2.5, "remaining": 7.5, "plan_id": "own",
        "subscription_id": "acme-own", "subscription_status": "active", "accepted": true,
        "duplicate": false,
    });
    assert_eq!(first, expected);
    let mut checked = world.get("/v1/customers/acme/entitlements/jobs").await;
    checked["accepted"] = json!(true);
    checked["duplicate"] = json!(false);
    assert_eq!(checked, expected, "the check after it");
    let again = consume(json!({"id": "a", "quantity": 2.5, "tags": {"team": "blue"}})).await;
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(true), &json!(true)), "{again}");
    let denied = consume(json!({"id": "b", "quantity": 8})).await;
    assert_eq!(denied["reason"], "limit_exceeded", "{denied}");
    assert_eq!((&denied["accepted"], &denied["usage"]), (&json!(false), &json!(2.5)), "{denied}");
    world.stop().await;
}

#[tokio::test]
async fn what_a_report_would_reject_is_a_problem_with_that_code() {
    let world = with_jobs(10).await;
    world.post(CONSUME, json!({"id": "a", "quantity": 1})).await;
    let post =
        |path, body, status, kind, word| (Method::POST, path, Some(body), status, kind, word);
    let one = |id: &str| json!({"id": id, "quantity": 1});
    let timed = |time| json!({"id": "t", "quantity": 1, "timestamp": time});
    let rows = vec![
        post(CONSUME, json!({"id": "a", "quantity": 2}), 409, "conflicting-duplicate", "another"),
        post(CONSUME, json!({"id": "", "quantity": 1}), 400, "invalid-event", "id"),
        post(CONSUME, json!({"id": "b", "quantity": -1}), 400, "invalid-quantity", "zero"),
        post(CONSUME, json!({"id": "b", "quantity": "x"}), 400, "invalid-quantity", "decimal"),
        post(CONSUME, timed("yesterday"), 400, "invalid-timestamp", "RFC 3339"),
        post(CONSUME, timed("1990-01-01T00:00:00Z"), 400, "invalid-timestamp", "2000"),
        post(CONSUME, timed("2020-01-01T00:00:00Z"), 422, "too-old", "max_age"),
        post(CONSUME, timed("2990-01-01T00:00:00Z"), 422, "timestamp-in-future", "ahead"),
        post(CONSUME, json!({"id": "b"}), 400, "bad-request", "quantity"),
        post(CONSUME, json!({"id": "b", "quantity": 1, "x": 1}), 400, "bad-request", "x"),
        post(
            "/v1/customers/nobody/entitlements/jobs/consume",
            one("b"),
            404,
            "unknown-customer",
            "nobody",
        ),
        post("/v1/customers/acme/entitlements/no/consume", one("b"), 404, "unknown-feature", "no"),
        post(
            "/v1/customers/acme/entitlements/sso/consume",
            one("b"),
            422,
            "feature-not-metered",
            "boolean",
        ),
        post(
            "/v1/customers/acme/entitlements/seats/consume",
            one("b"),
            422,
            "feature-not-metered",
            "numeric",
        ),
    ];
    check_refusals(&world, rows).await;
    let (_, problem) =
        world.call(Method::POST, CONSUME, Some(json!({"id": "a", "quantity": 2}))).await;
    assert_eq!(problem["code"], "conflicting_duplicate", "the word of a usage report: {problem}");
    let told = world.get("/v1/customers/acme/entitlements/jobs").await;
    assert_eq!(told["usage"], 1, "{told}");
    world.stop().await;
}

#[tokio::test]
async fn many_checks_are_answered_in_their_order() {
    let world = with_jobs(10).await;
    world.post(CONSUME, json!({"id": "a", "quantity": "0.25"})).await;
    let check = |customer, feature| json!({"customer_id": customer, "feature_id": feature});
    let asking = |customer, feature, requested: Value| json!({"customer_id": customer, "feature_id": feature, "requested": requested});
    let checks = vec![
        check("beta", "jobs"),
        check("acme", "jobs"),
        asking("acme", "jobs", json!("9.75")),
        asking("acme", "jobs", json!(9.76)),
        check("nobody", "jobs"),
        check("acme", "none"),
        check("acme", "sso"),
        asking("acme", "seats", json!(3)),
    ];
    let answer = world.post("/v1/access", json!({"checks": checks})).await;
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), checks.len());
    for (asked, told) in checks.iter().zip(items) {
        let text = |key: &str| asked[key].as_str().unwrap();
        let (customer, feature) = (text("customer_id"), text("feature_id"));
        let query = asked.get("requested").map_or(String::new(), |it| {
            format!("?requested={}", it.as_str().map_or(it.to_string(), str::to_owned))
        });
        let path = format!("/v1/customers/{customer}/entitlements/{feature}{query}");
        let mut single = world.get(&path).await;
        single["customer_id"] = json!(customer);
        assert_eq!(*told, single, "as a single check");
    }
    let access: Vec<bool> = items.iter().map(|it| it["has_access"].as_bool().unwrap()).collect();
    assert_eq!(access, [true, true, true, false, false, false, true, false]);
    assert_eq!(items[1]["remaining"], 9.75);

    let many = |count: usize| json!({"checks": vec![check("acme", "sso"); count]});
    let full = world.post("/v1/access", many(1_000)).await;
    assert_eq!(full["items"].as_array().unwrap().len(), 1_000);
    assert_eq!(world.post("/v1/access", many(0)).await, json!({"items": []}));
    let post =
        |body, status, kind, word| (Method::POST, "/v1/access", Some(body), status, kind, word);
    let misspelt = json!({"checks": [{"customer": "acme", "feature_id": "sso"}]});
    let negative = json!({"checks": [asking("acme", "jobs", json!(-1))]});
    check_refusals(
        &world,
        vec![
            post(many(1_001), 413, "too-many-checks", "1000"),
            post(json!({}), 400, "bad-request", "checks"),
            post(misspelt, 400, "bad-request", "checks[0]"),
            post(negative, 400, "bad-request", "checks[0].requested"),
        ],
    )
    .await;
    world.stop().await;
}

#[tokio::test]
async fn the_command_line_consumes_and_exits_by_the_answer() {
    let world = with_jobs(1).await;
    let arguments =
        ["usage", "consume", "--customer", "acme", "--feature", "jobs", "--quantity", "1"];
    let consume = async |id: &str| {
        let (code, out, complaint) =
            world.cli(&[["--output", "json"].as_slice(), &arguments, &["--id", id]].concat()).await;
        let answer: Value = serde_json::from_str(&out).unwrap_or_default();
        (code, answer["accepted"].as_bool(), answer["duplicate"].as_bool(), complaint)
    };
    let none = String::new();
    assert_eq!(consume("a").await, (0, Some(true), Some(false), none.clone()));
    assert_eq!(consume("a").await, (0, Some(true), Some(true), none.clone()));
    assert_eq!(consume("b").await, (1, Some(false), Some(false), none));
    let (code, _, complaint) =
        world.cli(&[&arguments[..5], &["none", "--quantity", "1"]].concat()).await;
    assert_eq!(code, 1);
    assert!(complaint.contains("there is no feature none"), "{complaint}");
    world.stop().await;
}
