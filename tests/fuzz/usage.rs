//! Usage reports as JSON and as one event a line.

use marketd::domain::Quantity;
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::http::{UsageRead, read_usage};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// Reads the bytes as either.
pub fn check(data: &[u8]) {
    if let Ok(found) = read_usage(JSON, data) {
        sound(&found);
        // A number that only a float could hold fails the whole of this document, and one event of that.
        if let Ok(document) = serde_json::from_slice::<Value>(data) {
            let events = document["events"].as_array().expect("fields have names");
            assert_eq!(
                found.events.len() + found.rejected.len(),
                events.len(),
                "every event is answered for"
            );
            let objects = events.iter().filter(|event| event.is_object()).count();
            assert!(found.events.len() <= objects, "an event's fields have names");
        }
        repeated(&found.events);
    }
    if let Ok(found) = read_usage(LINES, data) {
        sound(&found);
        let data = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
        let lines = data.split(|byte| *byte == b'\n');
        let full = lines.filter(|line| !line.trim_ascii().is_empty()).count();
        assert_eq!(found.events.len() + found.rejected.len(), full, "every line is answered for");
    }
}

pub(super) fn sound(found: &UsageRead) {
    for event in &found.events {
        assert!((1..=255).contains(&event.id.len()));
        assert!(!event.customer_id.as_str().trim().is_empty());
        assert!(event.quantity <= Quantity::MAX_RECORD);
        assert!(event.tags.len() <= 5);
        for (key, value) in &event.tags {
            assert!((1..=100).contains(&key.len()) && (1..=256).contains(&value.len()));
        }
    }
    for rejection in &found.rejected {
        assert!(!rejection.id.is_empty(), "whoever reported it must find it: {rejection:?}");
        assert!(!rejection.code.is_empty() && !rejection.detail.is_empty());
    }
}

/// What was understood says the same when it is written out again, in either format.
fn repeated(events: &[UsageEvent]) {
    let written: Vec<Value> = events.iter().map(write).collect();
    let report = json!({"events": written}).to_string();
    let lines: Vec<String> = written.iter().map(Value::to_string).collect();
    for (kind, body) in [(JSON, report), (LINES, lines.join("\n"))] {
        let again = read_usage(kind, body.as_bytes()).expect("what was read once");
        assert!(again.rejected.is_empty(), "{:?}", again.rejected);
        assert_eq!(again.events, events);
    }
}

fn write(event: &UsageEvent) -> Value {
    let mut written = json!({
        "id": event.id,
        "customer_id": event.customer_id,
        "quantity": event.quantity,
        "tags": event.tags,
        "timestamp": event.timestamp.map(|at| at.to_string()),
        "license_arn": event.license_arn,
    });
    match &event.subject {
        UsageSubject::Feature(feature) => written["feature_id"] = json!(feature),
        UsageSubject::Dimension { product_id, dimension } => {
            written["product_id"] = json!(product_id);
            written["dimension"] = json!(dimension);
        }
    }
    written
}
