//! What the ledger costs: usage taken against a bare SQLite bulk insert of the same rows, and a large hour closed.
//!
//! `cargo bench --bench ledger` prints each figure with its ratio to the floor that was measured beside it.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    reason = "a bench prints what it measured"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use marketd::domain::usage::UsageEvent;
use marketd::domain::{AwsIds, CustomerId};
use marketd::store::{ProvisionCustomer, Store};
use rusqlite::Connection;
use support::{WINDOW, closing_at_once, event, ledger, now, take};

const BATCH: usize = 1_000;
const EVENTS: usize = 200_000;
const CUSTOMERS: usize = 200;
const ROUNDS: usize = 3;
/// Customers, each with a licence that bears its usage.
async fn subscribe(store: &Store, path: &Path, count: usize) {
    for number in 0..count.min(CUSTOMERS) {
        let provision = ProvisionCustomer {
            id: CustomerId::new(format!("customer-{number}")),
            name: None,
            email: None,
            metadata: None,
            aws: AwsIds { account_id: None, customer_identifier: None, license_arn: None },
        };
        store.provision_customer(provision, now()).await.unwrap();
    }
    let mut file = Connection::open(path).unwrap();
    let together = file.transaction().unwrap();
    for number in 0..count {
        let arn = format!("arn:aws:license-manager::294406891311:license:l-{number:032x}");
        together
            .prepare_cached("INSERT OR IGNORE INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES (?1, 1, 0, 0)")
            .unwrap()
            .execute([format!("customer-{number}")])
            .unwrap();
        together
            .prepare_cached(
                "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id, license_arn,
                     status, created_at_ms, updated_at_ms)
                 VALUES (?1, ?2, 'prod-1', 'aws', ?3, ?4, ?5, 'active', 0, 0)",
            )
            .unwrap()
            .execute((
                format!("sub-{number}"),
                format!("customer-{number}"),
                format!("license:{arn}"),
                format!("{number:012}"),
                &arn,
            ))
            .unwrap();
    }
    together.commit().unwrap();
}

fn id(number: usize, ordered: bool) -> String {
    let random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635;
    if ordered {
        format!("{number:016x}-{random:016x}")
    } else {
        format!("{random:016x}-{number:016x}")
    }
}

fn events(ordered: bool, customers: usize) -> Vec<Vec<UsageEvent>> {
    let event = |number: usize| event(id(number, ordered), number % customers);
    (0..EVENTS / BATCH)
        .map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(event).collect())
        .collect()
}

/// The same rows by the same engine, with nothing decided and nothing counted.
fn bare(ordered: bool, customers: usize) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bare.db");
    let mut file = Connection::open(&path).unwrap();
    file.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE usage_events (
             id TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, customer_id TEXT NOT NULL, feature_id TEXT,
             record_id INTEGER, quantity INTEGER NOT NULL, billed INTEGER NOT NULL, at_ms INTEGER NOT NULL,
             timed INTEGER NOT NULL, received_at_ms INTEGER NOT NULL, moved TEXT, tags TEXT,
             included_under INTEGER) STRICT;
         CREATE INDEX usage_events_by_record ON usage_events (record_id) WHERE record_id IS NOT NULL;",
    )
    .unwrap();
    let batches = events(ordered, customers);
    let at = now().as_millisecond();
    let begun = Instant::now();
    for batch in batches {
        let together = file.transaction().unwrap();
        {
            let mut insert = together
                .prepare_cached(
                    "INSERT INTO usage_events VALUES (?1, ?2, ?3, NULL, ?4, ?5, ?5, ?6, 1, ?6, NULL, NULL, NULL)",
                )
                .unwrap();
            for (number, event) in batch.iter().enumerate() {
                let record = i64::try_from(number % customers).unwrap();
                let quantity = event.quantity.millionths();
                insert
                    .execute((
                        &event.id,
                        [7_u8; 16],
                        event.customer_id.as_str(),
                        record,
                        quantity,
                        at,
                    ))
                    .unwrap();
            }
        }
        together.commit().unwrap();
    }
    begun.elapsed()
}

async fn taken(ordered: bool, customers: usize, at_once: usize) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = ledger(folder.path()).await;
    subscribe(&store, &folder.path().join("marketd.db"), customers).await;
    let batches = events(ordered, customers);
    let begun = Instant::now();
    take(std::slice::from_ref(&store), at_once, batches).await;
    let elapsed = begun.elapsed();
    store.close();
    elapsed
}

async fn closing() {
    const HOLDERS: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let store = ledger(folder.path()).await;
    let path = folder.path().join("marketd.db");
    subscribe(&store, &path, HOLDERS).await;
    let mut file = Connection::open(&path).unwrap();
    let together = file.transaction().unwrap();
    let hour = now().as_second() / 3_600;
    for number in 0..HOLDERS {
        for dimension in ["d1", "d2", "d3"] {
            together
                .prepare_cached(
                    "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
                     VALUES ('prod-1', ?1, ?2, ?3, ?4, 5000000, 'open')",
                )
                .unwrap()
                .execute((
                    format!("customer-{number}"),
                    format!("license:arn:aws:license-manager::294406891311:license:l-{number:032x}"),
                    dimension,
                    hour,
                ))
                .unwrap();
        }
    }
    together.commit().unwrap();
    let later = now() + SignedDuration::from_mins(40);
    let begun = Instant::now();
    let closed = store.close_hours(closing_at_once(), later).await.unwrap();
    let frozen = begun.elapsed();
    assert_eq!(closed.frozen, HOLDERS * 3);
    let begun = Instant::now();
    let due = store.records_to_send(WINDOW, 2_000, later).await.unwrap();
    println!(
        "closing: {} records frozen in {frozen:.2?}; the next {} to send found in {:.2?}",
        closed.frozen,
        due.len(),
        begun.elapsed()
    );
    store.close();
}

fn main() {
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let rows = [
        ("one customer a report, ordered ids", true, 1, 1),
        ("one customer a report, random ids", false, 1, 1),
        ("200 customers a report, ordered ids", true, CUSTOMERS, 1),
        ("200 customers a report, random ids", false, CUSTOMERS, 1),
        ("1,000 customers a report, four at once, ordered ids", true, BATCH, 4),
        ("1,000 customers a report, four at once, random ids", false, BATCH, 4),
        ("1,000 of 20,000 customers a report, four at once, ordered ids", true, 20_000, 4),
    ];
    for (name, ordered, customers, at_once) in rows {
        if !wanted("usage") {
            continue;
        }
        let (mut floor, mut ours) = (Duration::MAX, Duration::MAX);
        // In turn, so that whatever else the machine does is borne by both.
        for _ in 0..ROUNDS {
            floor = floor.min(bare(ordered, customers));
            ours = ours.min(runtime.block_on(taken(ordered, customers, at_once)));
        }
        println!(
            "usage, {name}: {:.0} events/s, {:.2} of a bare insert ({:.0} rows/s)",
            EVENTS as f64 / ours.as_secs_f64(),
            floor.as_secs_f64() / ours.as_secs_f64(),
            EVENTS as f64 / floor.as_secs_f64(),
        );
    }
    if wanted("closing") {
        runtime.block_on(closing());
    }
}
