//! Of all that a seller's days bring, no statement reads a table that grows with customers, usage or time.

use marketd::store::{Store, scans};

/// The tables that grow.
const GROWING: [&str; 23] = [
    "agreements",
    "buyers",
    "contradictions",
    "customer_aliases",
    "customers",
    "events",
    "hidden_licenses",
    "identities",
    "licenses",
    "mappings",
    "metering_attempts",
    "metering_decisions",
    "metering_records",
    "metering_tags",
    "notifications",
    "registrations",
    "subscription_signals",
    "subscriptions",
    "usage_bearers",
    "usage_events",
    "usage_hours",
    "webhook_ahead",
    "webhook_deliveries",
];

/// Beginnings of the statements that may, and why.
const ALLOWED: [(&str, &str); 6] = [
    (
        "INSERT INTO metering_records",
        "an hour of zero for each subscription, once an hour, where the seller wants it",
    ),
    ("INSERT INTO metering_attempts", "after a backup was put back, once"),
    ("UPDATE OR FAIL metering_records SET attempts = attempts + 1, state = CASE", "the same"),
    ("-- What was quarantined for its signature", "a migration"),
    ("INSERT INTO usage_hours_by_product", "a migration"),
    ("INSERT INTO usage_sums", "a migration"),
];

/// Explains every statement that was run, on a database without rows: plans do not depend on them.
pub(super) fn assert_that_none_reads_a_growing_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketd.db");
    Store::open(&path).unwrap().close();
    for scan in scans(&path, &GROWING).unwrap() {
        let words: Vec<&str> = scan.statement.split_whitespace().collect();
        let text = words.join(" ");
        let is_allowed = ALLOWED.iter().any(|(begins, _)| text.starts_with(begins));
        assert!(is_allowed, "{} in: {text}", scan.step);
    }
}
