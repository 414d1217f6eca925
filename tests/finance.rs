//! What finance asks of the ledger, over HTTP and by the command line: files in and out, the month, where a unit went.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, Order};
use reqwest::{Client, Method, header};
use serde_json::{Value, json};
use support::world::{World, eventually, marketd};

/// A seller with one buyer, `acme`, on a contract that includes ten calls a month.
async fn seller() -> (World, String) {
    let world = World::in_mid_month().await;
    let insight = world.product("Acme Insight");
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

/// Compares the API's month with that of the console and of the command line.
async fn the_month_is_the_same_everywhere(world: &World, report: &Value, code: &str) {
    // Half a unit is left of three and a half: a record beside the first bears it.
    for (place, carried) in [("carried_in", "0.5"), ("carried_out", "0"), ("remainder", "0.5")] {
        assert_eq!(report["totals"][place], carried, "{report}");
        assert_eq!(report["items"][0][place], carried, "{report}");
    }
    let page = world.get_text("/metering/months/2026-11").await;
    let sums = "<td class=\"number\">3.5</td><td class=\"number\"></td><td class=\"number\">3.5</td><td class=\"number\">3</td>";
    assert_eq!(page.matches(sums).count(), 2, "the sums and the customer: {page}");
    let whose = format!(",2026-11,{code},123456789012,0.5,3.5,0,,");
    let by_page = world.get_text("/metering/months/2026-11/csv").await;
    let (_, by_cli, _) = cli(world, &["metering", "report", "--month", "2026-11", "--csv"]).await;
    assert_eq!(by_page, by_cli);
    let mut lines = by_page.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .ends_with(",remainder,usage,carried,customer_identifier,customer_name")
    );
    assert!(lines.next().unwrap().ends_with(&whose), "{by_page}");
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
    for accepted in ["2 events accepted, 0 repeated", "0 events accepted, 2 repeated"] {
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
    assert_eq!(billed["quantity"], "3");
    assert_eq!(billed["allocations"], json!([{"quantity": "3", "tags": {"team": "red"}}]));
    assert_eq!(billed["sent_as"]["account_id"], "123456789012");
    assert_eq!(billed["history"][0]["outcome"], "success");

    let report = world.get("/v1/metering/report?month=2026-11").await;
    assert_eq!(report["items"][0]["customer_id"], "acme", "{report}");
    assert_eq!(report["totals"]["accepted"], "3", "{report}");
    let code = world.product("Acme Insight").product_code;
    assert_eq!(report["items"][0]["product_code"], code.as_str(), "{report}");
    assert_eq!(report["items"][0]["account_id"], "123456789012", "{report}");
    the_month_is_the_same_everywhere(&world, &report, &code).await;
    let balance = world.get("/v1/metering/balance").await;
    assert_eq!(balance["included"], "10", "{balance}");
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
    let meter = world.product("Acme Meter").entity_id;
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

#[tokio::test]
async fn one_bad_line_is_rejected_and_the_others_are_taken() {
    let world = World::with_nothing_imported().await;
    world.put("/v1/customers/acme", json!({"name": "Acme"})).await;
    world.put("/v1/features/calls", json!({"name": "Calls", "type": "metered"})).await;
    let event =
        |id: &str| json!({"id": id, "customer_id": "acme", "feature_id": "calls", "quantity": 1});
    let lines: Vec<Vec<u8>> = vec![
        event("e-1").to_string().into_bytes(),
        br#"{"id":"e-2","customer_id":"acme","feature_id":"calls","quantity":"#.to_vec(),
        b"so it ends".to_vec(),
        Vec::new(),
        b"{\"id\":\"e-5\",\"customer_id\":\"\xff\"}".to_vec(),
        br#"["e-6"]"#.to_vec(),
        br#"{"customer_id":"acme","feature_id":"calls","quantity":1}"#.to_vec(),
        [event("e-8").to_string().as_bytes(), b"\r"].concat(),
    ];
    let csv = b"id,customer_id,feature_id,quantity\nc-1,acme,calls,1\nc-2,acme\n\nc-4,\xff,calls,1\n,acme,calls,1\nc-6,acme,calls,2\n";
    let names = |receipt: &Value| -> Vec<String> {
        let rejected = receipt["rejected"].as_array().unwrap().iter();
        rejected
            .map(|it| {
                assert_eq!(it["code"], "invalid_event", "{receipt}");
                assert!(!it["detail"].as_str().unwrap().is_empty(), "{receipt}");
                it["id"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    let report = async |kind: &str, body: Vec<u8>| -> Value {
        let request = Client::new().post(format!("{}/v1/usage", world.url()));
        let sent = request.header(header::CONTENT_TYPE, kind).body(body).send().await.unwrap();
        assert_eq!(sent.status(), 200);
        sent.json().await.unwrap()
    };
    let receipt = report("application/x-ndjson", lines.join(&b'\n')).await;
    assert_eq!(receipt["accepted"], 2, "{receipt}");
    assert_eq!(names(&receipt), ["e-2", "line 3", "e-5", "line 6", "line 7"]);
    let receipt = report("text/csv", csv.to_vec()).await;
    assert_eq!(receipt["accepted"], 2, "{receipt}");
    assert_eq!(names(&receipt), ["c-2", "c-4", "line 6"]);

    // The command line sends a file in parts, and names the lines of the file.
    let mut long: Vec<Vec<u8>> =
        (0..5_100).map(|number| event(&format!("f-{number}")).to_string().into_bytes()).collect();
    long.insert(5_050, b"so it ends".to_vec());
    long.insert(10, Vec::new());
    for (name, body, accepted, rejected) in [
        ("usage.ndjson", long.join(&b'\n'), 5_100, vec!["line 5052"]),
        ("usage.csv", csv.to_vec(), 0, vec!["c-2", "c-4", "line 6"]),
    ] {
        let file = world.file(name);
        std::fs::write(&file, body).unwrap();
        let path = file.to_str().unwrap();
        let (code, out, complaint) =
            world.cli(&["--output", "json", "usage", "import", path]).await;
        assert_eq!(code, 1, "what was not taken shows in the exit code: {complaint}");
        let receipt: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&receipt["accepted"], names(&receipt)),
            (&json!(accepted), rejected.iter().map(ToString::to_string).collect())
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn all_that_is_parked_for_a_reason_is_resolved_by_one_decision() {
    let (world, product) = seller().await;
    world.put("/v1/customers/other", json!({})).await;
    for (id, quantity) in [("a", 30), ("b", 7)] {
        let event = json!({
            "id": id, "customer_id": "other", "product_id": &product, "dimension": "api_calls",
            "quantity": quantity,
        });
        assert_eq!(world.post("/v1/usage", json!({"events": [event]})).await["accepted"], 1);
        world.sandbox().clock().advance(SignedDuration::from_hours(1)).unwrap();
    }
    // Nobody has bought anything by then.
    world.sandbox().clock().advance(SignedDuration::from_hours(30)).unwrap();
    let parked = eventually("two parked records", async || {
        let records = world.list("/v1/metering/records?state=parked").await;
        (records.len() == 2).then_some(records)
    })
    .await;
    assert_eq!(parked[0]["reason"], "no_subscription");

    let resolve = async |filter: Value| {
        let body = json!({"filter": filter, "action": "write_off", "dry_run": true});
        world.post("/v1/metering/resolve", body).await
    };
    let all = json!({"matched": 2, "resolved": 2, "units": "37", "refused": []});
    assert_eq!(resolve(json!({})).await, all);
    let since = json!({"since": "2026-11-10T10:59:00Z", "state": "parked"});
    let last = json!({"matched": 1, "resolved": 1, "units": "7", "refused": []});
    assert_eq!(resolve(since).await, last);
    assert_eq!(resolve(json!({"until": "2026-11-10T10:00:00Z"})).await["units"], "30");
    assert_eq!(resolve(json!({"reason": "restored"})).await["matched"], 0);

    let which = ["metering", "resolve", "--all", "--reason", "no_subscription", "--action"];
    let decide = async |rest: &[&str]| cli(&world, &[&which[..], rest].concat()).await;
    let (code, out, err) = decide(&["write_off", "--dry-run"]).await;
    assert!(
        code == 0 && out.contains("2 of 2 parked records would be written off: 37 units"),
        "{out}{err}"
    );
    let (code, out, err) = decide(&["retry", "--note", "again"]).await;
    assert!(code == 1 && out.contains("never_frozen"), "{out}{err}");
    assert_eq!(world.list("/v1/metering/records?state=parked").await.len(), 2);
    let (code, out, err) = decide(&["write_off", "--note", "they left"]).await;
    assert!(code == 0 && out.contains("2 of 2 parked records written off: 37 units"), "{out}{err}");

    let path = format!("/v1/metering/records/{}", parked[0]["id"].as_str().unwrap());
    let record = world.get(&path).await;
    assert_eq!(record["decisions"][0]["note"], "they left", "{record}");
    assert_eq!(record["decisions"][0]["actor"], "local");
    assert_eq!(world.get("/v1/metering/balance").await["written_off"], "37");
    let activity = world.get("/v1/activity?limit=1").await;
    assert_eq!(activity["items"][0]["operation"], "resolveMeteringRecords");
    world.stop().await;
}
