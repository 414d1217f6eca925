//! What finance asks of the ledger, over HTTP and by the command line: files in and out, the month, where a unit went.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use marketd::sandbox::market::{Action, Order};
use reqwest::{Client, Method, header};
use serde_json::{Value, json};
use support::world::{World, eventually, marketd};

/// A seller with one buyer, `acme`, on a contract that includes ten calls.
async fn seller() -> (World, String) {
    let world = World::with_demo_catalog().await;
    let insight = world.market(|market, _| {
        market.products().find(|it| it.title == "Acme Insight").unwrap().clone()
    });
    let feature = json!({
        "name": "Calls", "type": "metered", "dimensions": {&insight.entity_id: "api_calls"},
    });
    world.put("/v1/features/calls", feature).await;
    let included = json!({"limit": 10, "reset": "month", "bill": "overage"});
    world.put("/v1/plans/pro/entitlements/calls", included).await;
    let order = Order::of(&insight.product_code).with("pro", 1);
    world.market(|market, now| market.act(now, "123456789012", Action::Purchase(order)).unwrap());
    let aws = json!({"account_id": "123456789012"});
    world.put("/v1/customers/acme?wait=5s", json!({"aws": aws})).await;
    eventually("a subscription", async || {
        let found = world.get("/v1/customers/acme/subscriptions").await;
        found["items"].get(0).map(|_| ())
    })
    .await;
    (world, insight.entity_id)
}

async fn cli(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let output = marketd().env("MARKETD_URL", world.url()).args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// This month as marketd writes it.
fn month() -> String {
    jiff::Timestamp::now().to_string().chars().take(7).collect()
}

#[tokio::test]
async fn a_file_of_usage_comes_out_as_a_month_that_adds_up() {
    let (world, product) = seller().await;
    let folder = tempfile::tempdir().unwrap();
    let usage = folder.path().join("usage.csv");
    std::fs::write(
        &usage,
        "id,customer_id,feature_id,quantity,tag:team\na,acme,calls,8,red\nb,acme,calls,5.5,red\n",
    )
    .unwrap();
    let usage = usage.to_str().unwrap();
    for accepted in ["accepted    2", "duplicates  2"] {
        let (code, out, err) = cli(&world, &["usage", "import", usage]).await;
        assert!(code == 0 && out.contains(accepted), "{out}{err}");
    }
    let event = world.get("/v1/usage/b").await;
    assert_eq!((&event["quantity"], &event["billed"]), (&json!("5.5"), &json!("3.5")), "{event}");
    assert_eq!(event["metering_record"]["dimension"], "api_calls");
    assert_eq!(world.list("/v1/usage?customer_id=acme").await.len(), 2);
    let record = event["metering_record"]["id"].as_str().unwrap();
    assert_eq!(world.list(&format!("/v1/usage?record_id={record}")).await.len(), 1);

    // The buyer leaves: what is whole is billed at once.
    let order = Order::of(&product);
    world.market(|market, now| market.act(now, "123456789012", Action::Cancel(order)).unwrap());
    let billed = eventually("a billed record", async || {
        let record = world.get(&format!("/v1/metering/records/{record}")).await;
        (record["state"] == "accepted").then_some(record)
    })
    .await;
    assert_eq!(billed["quantity"], 3);
    assert_eq!(billed["allocations"], json!([{"quantity": 3, "tags": {"team": "red"}}]));
    assert_eq!(billed["sent_as"]["account_id"], "123456789012");
    assert_eq!(billed["history"][0]["outcome"], "success");

    let report = world.get(&format!("/v1/metering/report?month={}", month())).await;
    assert_eq!(report["items"][0]["customer_id"], "acme", "{report}");
    assert_eq!(report["totals"]["accepted"], 3, "{report}");
    let balance = world.get("/v1/metering/balance").await;
    assert_eq!(balance["included"], 10, "{balance}");
    assert_eq!(balance["adds_up"], true);

    let ledger = folder.path().join("ledger.csv");
    let (code, _, err) = cli(&world, &["metering", "export", ledger.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{err}");
    let written = std::fs::read_to_string(&ledger).unwrap();
    let mut lines = written.lines();
    assert!(lines.next().unwrap().starts_with("id,product_id,customer_id"), "{written}");
    let line = lines.next().unwrap();
    assert!(line.contains(",acme,") && line.contains(",accepted,"), "{written}");
    let (code, _, err) = cli(&world, &["metering", "export", ledger.to_str().unwrap()]).await;
    assert!(code == 1 && err.contains("ledger.csv"), "a file is never written over: {err}");
    let (_, lines, _) = cli(&world, &["metering", "export", "--format", "ndjson"]).await;
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["state"], "accepted");
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_taken_says_why() {
    let (world, _) = seller().await;
    let meter = world.market(|market, _| {
        market.products().find(|it| it.title == "Acme Meter").unwrap().entity_id.clone()
    });
    let licensing = format!("/v1/products/{meter}/licensing");
    for (method, path, body, status, word) in [
        (Method::GET, "/v1/usage/none", None, 404, "none"),
        (Method::GET, "/v1/metering/report?month=november", None, 400, "2026-11"),
        (Method::GET, "/v1/metering/export?format=xml", None, 400, "format"),
        (Method::GET, "/v1/metering/export?from=soon", None, 400, "from"),
        (Method::GET, "/v1/metering/records?state=lost", None, 400, "state"),
        (Method::PUT, &licensing, Some(json!({"from": "2020-01-01T00:00:00Z"})), 422, "too early"),
        (Method::PUT, &licensing, Some(json!({"from": "2999-01-01T00:30:00Z"})), 400, "clock hour"),
        (Method::PUT, "/v1/products/none/licensing", Some(json!({"from": null})), 404, "none"),
        (
            Method::PUT,
            "/v1/plans/pro/entitlements/calls",
            Some(json!({"bill": "overage"})),
            422,
            "limit",
        ),
    ] {
        let (given, problem) = world.call(method, path, body).await;
        assert_eq!(given, status, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
    let moved = world.put(&licensing, json!({"from": "2999-01-01T00:00:00Z"})).await;
    assert_eq!(moved["licensed_from"], "2999-01-01T00:00:00Z");
    let back = world.put(&licensing, json!({"from": null})).await;
    assert_eq!(back["licensed_from"], Value::Null);

    let wrong = Client::new()
        .post(format!("{}/v1/usage", world.url()))
        .header(header::CONTENT_TYPE, "text/csv")
        .body("id,who,quantity\n1,acme,2\n")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 400);
    assert!(wrong.text().await.unwrap().contains("who"));
    world.stop().await;
}
