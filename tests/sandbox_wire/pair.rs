//! A sandbox and a daemon in one process: one clock, one environment to paste, one reset.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::rehearsal::Rehearsal;
use crate::support::world::{eventually, marketd};

const BUYER: &str = "123456789012";

/// Sells a pay-as-you-go product to a buyer whom the daemon knows as acme, by a role.
async fn sell(pair: &Rehearsal) {
    let products = pair.sandbox("demo", json!({})).await;
    let entity = products["items"][1]["entity_id"].as_str().unwrap().to_owned();
    let connect = "marketd integration connect --role-arn arn:aws:iam::111122223333:role/marketd";
    let import = format!("marketd listing import {entity} --product-id stream");
    let provision = format!("marketd customer provision acme --aws-account-id {BUYER}");
    for line in [connect, &import] {
        let (worked, output) = pair.bash(line).await;
        assert!(worked, "{line}: {output}");
    }
    pair.sandbox(&format!("buyers/{BUYER}/subscribe"), json!({"product": entity})).await;
    let (worked, output) = pair.bash(&provision).await;
    assert!(worked, "{provision}: {output}");
}

async fn report(pair: &Rehearsal, id: &str, quantity: u32) -> Value {
    let event = json!({
        "id": id, "customer_id": "acme", "product_id": "stream", "dimension": "requests",
        "quantity": quantity,
    });
    pair.api("/v1/usage", json!({"events": [event]})).await
}

/// What AWS's ledger has of it, once there is so much.
async fn billed(pair: &Rehearsal, records: usize) -> Vec<Value> {
    eventually("the bill", async || {
        let ledger = pair.sandbox("metering", None).await;
        let items = ledger["items"].as_array().unwrap().clone();
        (items.len() == records).then_some(items)
    })
    .await
}

#[tokio::test]
async fn moving_the_clock_closes_hours_and_bills_them_again_and_again() {
    // No timer of the daemon's ends within this test but by the clock.
    let slow = "MARKETD__METERING__INTERVAL=30m MARKETD__METERING__GRACE=10m marketd sandbox --with-daemon";
    let pair = Rehearsal::start_by(slow).await;
    sell(&pair).await;
    for (round, hours) in [(1, 2), (2, 2), (3, 5)] {
        report(&pair, &format!("req-{round}"), 7).await;
        pair.sandbox("clock", json!({"advance": format!("PT{hours}H")})).await;
        let items = billed(&pair, round).await;
        assert!(items.iter().all(|it| it["quantity"] == "7"), "{items:?}");
    }
    let ledger = pair.sandbox("metering", None).await;
    // Connecting tried the permission with a call of no records.
    let refused = ledger["refused"].as_array().unwrap().iter().filter(|it| it["records"] != 0);
    assert_eq!(refused.count(), 0, "{ledger}");
    pair.stop().await;
}

#[tokio::test]
async fn a_machine_without_authorities_rehearses_all_the_same() {
    let bare = "SSL_CERT_FILE=/nowhere SSL_CERT_DIR=/nowhere marketd sandbox --with-daemon";
    let pair = Rehearsal::start_by(bare).await;
    sell(&pair).await;
    report(&pair, "req-1", 3).await;
    pair.sandbox("clock", json!({"advance": "PT2H"})).await;
    billed(&pair, 1).await;
    pair.stop().await;
}

#[tokio::test]
async fn moving_the_clock_beyond_the_sweep_s_interval_finds_what_no_notification_told() {
    let pair = Rehearsal::start("").await;
    sell(&pair).await;
    let searches = async || {
        let calls = pair.sandbox("calls/summary", None).await;
        let of = calls["items"].as_array().unwrap().iter();
        let of = of.filter(|call| call["operation"] == "SearchAgreements");
        of.map(|call| call["count"].as_u64().unwrap()).sum::<u64>()
    };
    // Those of the start, the import and the buyer.
    let mut before = searches().await;
    let mut looks = 0;
    while looks < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let now = searches().await;
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
    }
    pair.sandbox("delivery", json!({"lose": true})).await;
    let product = pair.api("/v1/products", None).await["items"][0]["product_code"].clone();
    pair.sandbox("buyers/210987654321/subscribe", json!({"product": product})).await;
    pair.sandbox("clock", json!({"advance": "PT7H"})).await;
    eventually("the sweep", async || (searches().await > before).then_some(())).await;
    eventually("the second buyer", async || {
        let found = pair.api("/v1/subscriptions?product_id=stream", None).await;
        (found["items"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    pair.stop().await;
}

#[tokio::test]
async fn a_reset_makes_the_pair_as_it_was_at_first() {
    let pair = Rehearsal::start("").await;
    let mut bills = Vec::new();
    for _ in 0..3 {
        sell(&pair).await;
        let receipt = report(&pair, "req-1", 5).await;
        assert_eq!(receipt["accepted"], 1, "the id is new to this database: {receipt}");
        pair.sandbox("clock", json!({"advance": "PT2H"})).await;
        let items = billed(&pair, 1).await;
        bills.push((items[0]["license_arn"].clone(), items[0]["quantity"].clone()));
        pair.sandbox("reset", json!({})).await;
        let customers = pair.api("/v1/customers", None).await;
        assert_eq!(customers["items"], json!([]));
        let products = pair.api("/v1/products", None).await;
        assert_eq!(products["items"], json!([]));
    }
    assert!(bills.iter().all(|bill| *bill == bills[0]), "{bills:?}");
    sell(&pair).await;
    pair.sandbox("reset", json!({"keep": ["daemon", "market"]})).await;
    let customers = pair.api("/v1/customers", None).await;
    assert_eq!(customers["items"][0]["id"], "acme");
    pair.stop().await;
}

#[tokio::test]
async fn the_pair_prints_all_that_its_callers_need() {
    let pair = Rehearsal::start_by(
        "MARKETD__HTTP__TOKEN=\"it's secret\" marketd sandbox --with-daemon --database own.db",
    )
    .await;
    assert_eq!(pair.environment()["MARKETD_TOKEN"], "it's secret");
    assert!(pair.file("own.db").exists());
    let (worked, output) = pair.bash("marketd product list").await;
    assert!(worked, "{output}");
    // What a shell is given to read is read back as it was.
    let again = "marketd sandbox --with-daemon --listen 127.0.0.1:0 --daemon-listen 127.0.0.1:0";
    let line = format!(
        "export MARKETD__HTTP__TOKEN=\"it's secret\"; \
         coproc {{ exec {again} --exit-with-parent; }}; \
         while read -r line <&${{COPROC[0]}}; do eval \"$line\"; \
         case $line in *MARKETD_TOKEN*) break; esac; done; \
         test \"$MARKETD_TOKEN\" = \"it's secret\" && marketd customer list"
    );
    let (worked, output) = pair.bash(&line).await;
    assert!(worked, "{output}");
    let (worked, output) = pair.bash(&format!("{again} --database own.db")).await;
    assert!(!worked && output.contains("exists already"), "{output}");
    pair.stop().await;
}

#[tokio::test]
async fn a_sandbox_goes_with_whoever_started_it() {
    let mut parent = Command::new("bash")
        .args(["-c", "\"$0\" sandbox --listen 127.0.0.1:0 --exit-with-parent & wait"])
        .arg(marketd().as_std().get_program())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut out = BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).await.unwrap();
    assert!(line.contains("AWS_ENDPOINT_URL"), "{line}");
    parent.kill().await.unwrap();
    // Its output ends when it does.
    let ended = async { while out.read_line(&mut line).await.unwrap() > 0 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.unwrap();
}
