//! A reset: what is left of what was, and what a test may keep.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::rehearsal::Rehearsal;
use crate::support::world::eventually;

/// Each part, and where the control API shows it.
const PARTS: &[(&str, &str)] = &[
    ("market", "products"),
    ("market", "agreements"),
    ("options", "options"),
    ("queue", "queues"),
    ("faults", "faults"),
    ("holds", "delivery"),
    ("clock", "clock"),
    ("roles", "roles"),
    ("calls", "calls/summary"),
];

const ROLE: &str = "arn:aws:iam::111122223333:role/mine";

async fn shown(sandbox: &Rehearsal, path: &str) -> Value {
    let mut shown = sandbox.sandbox(path, None).await;
    if let Some(now) = shown.get("now").and_then(Value::as_str) {
        let now: Timestamp = now.parse().unwrap();
        let ahead = now.duration_since(Timestamp::now()).abs() > SignedDuration::from_mins(5);
        shown["now"] = json!(if ahead { "moved" } else { "the machine's" });
    }
    shown
}

async fn all_shown(sandbox: &Rehearsal) -> Vec<Value> {
    let mut all = Vec::new();
    for (_, path) in PARTS {
        all.push(shown(sandbox, path).await);
    }
    all
}

/// Changes everything that can be changed.
async fn live(sandbox: &Rehearsal) {
    let products = sandbox.sandbox("demo", json!({})).await;
    let stream = products["items"][1]["entity_id"].clone();
    sandbox.sandbox("buyers/123456789012/subscribe", json!({"product": stream})).await;
    sandbox.sandbox("options", json!({"identical_retry": "duplicate"})).await;
    sandbox.sandbox("roles", json!({"role_arn": ROLE})).await;
    sandbox.sandbox("clock", json!({"advance": "PT26H", "freeze": true})).await;
    eventually("the notifications", async || {
        let queues = sandbox.sandbox("queues", None).await;
        (queues["items"][0]["visible"].as_u64() > Some(0)).then_some(())
    })
    .await;
    sandbox.sandbox("delivery", json!({"hold": true, "raw": true})).await;
    let endpoint = &sandbox.environment()["AWS_ENDPOINT_URL"];
    let call = |target: &str, body: &str| {
        format!(
            "curl -sf $AWS_ENDPOINT_URL/ -H 'x-amz-target: {target}' \
             -H 'content-type: application/x-amz-json-1.0' -d '{body}'"
        )
    };
    let (worked, answer) =
        sandbox.bash(&call("AmazonSQS.CreateQueue", r#"{"QueueName":"other"}"#)).await;
    assert!(worked, "{endpoint}: {answer}");
    let fault = json!({"operation": "BatchMeterUsage", "kind": "throttle"});
    sandbox.sandbox("faults", fault).await;
}

#[tokio::test]
async fn a_reset_leaves_nothing_of_what_was() {
    let sandbox = Rehearsal::start_by("marketd sandbox").await;
    let at_first = all_shown(&sandbox).await;
    live(&sandbox).await;
    let once = all_shown(&sandbox).await;
    for (((part, path), at_first), once) in PARTS.iter().zip(&at_first).zip(&once) {
        assert_ne!(at_first, once, "nothing was changed of {part} at {path}");
    }
    let answer = sandbox.sandbox("reset", json!({})).await;
    assert_eq!(answer, json!({"reset": true, "kept": []}));
    assert_eq!(all_shown(&sandbox).await, at_first);
    // The same life again has the same ids, and no message of the one before.
    live(&sandbox).await;
    let twice = all_shown(&sandbox).await;
    let place = |path: &str| PARTS.iter().position(|(_, it)| *it == path).unwrap();
    let licenses = |all: &[Value]| {
        let items = all[place("agreements")]["items"].as_array().unwrap().clone();
        items.iter().map(|it| it["license_arn"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(licenses(&twice), licenses(&once));
    assert_eq!(twice[place("queues")], once[place("queues")]);
    sandbox.stop().await;
}

#[tokio::test]
async fn what_a_reset_is_to_keep_stays_and_nothing_else() {
    let sandbox = Rehearsal::start_by("marketd sandbox").await;
    let at_first = all_shown(&sandbox).await;
    let mut parts: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
    parts.dedup();
    for kept in parts {
        live(&sandbox).await;
        let before = all_shown(&sandbox).await;
        sandbox.sandbox("reset", json!({"keep": [kept]})).await;
        let after = all_shown(&sandbox).await;
        for (place, (part, path)) in PARTS.iter().enumerate() {
            let expected = if *part == kept { &before } else { &at_first };
            assert_eq!(after[place], expected[place], "{path} after a reset that keeps {kept}");
        }
        sandbox.sandbox("reset", json!({})).await;
    }
    for wrong in [json!({"keep": ["markets"]}), json!({"kept": []}), json!({"keep": "market"})] {
        let (status, answer) = sandbox.try_sandbox("reset", Some(wrong.clone())).await;
        assert_eq!(status, 400, "{wrong}: {answer}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn a_receipt_of_a_queue_that_was_deletes_nothing_of_the_one_that_is() {
    let sandbox = crate::start(21).await;
    let queue = crate::Queue::of(&sandbox).await;
    queue.send("old").await;
    let old = queue.receive().await;
    sandbox.reset(vec![]).await.unwrap();
    queue.send("new").await;
    let new = queue.receive().await;
    assert_eq!(new[0].body(), Some("new"));
    queue.delete(old[0].receipt_handle().unwrap()).await.unwrap();
    assert_eq!(sandbox.queued(), 1);
    queue.delete(new[0].receipt_handle().unwrap()).await.unwrap();
    assert_eq!(sandbox.queued(), 0);
    sandbox.stop().await;
}
