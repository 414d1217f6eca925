//! What reading the ledger costs as history and backlog grow: the same questions over little and over much.
//! `cargo bench --bench growth` prints both, and their ratio.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use marketd::domain::ledger::{AgeLimits, Timing};
use marketd::domain::{ClockHour, CustomerId, ProductId};
use marketd::store::{Order, Page, RecordFilter, ReportFilter, Store};
use rusqlite::Connection;
use support::{event, metered, now};

/// Customers, each with a record an hour.
const CUSTOMERS: i64 = 1_000;
const LITTLE: i64 = 10_000;
const MUCH: i64 = 1_000_000;
/// Records that are made in one transaction.
const PIECE: i64 = 20_000;
const TIMES: usize = 15;

fn hour() -> i64 {
    ClockHour::of(now()).number()
}

/// A ledger with so many records, from `first` on, in one state.
async fn ledger(folder: &Path, records: i64, first: i64, state: &str) -> Store {
    let path = folder.join("marketd.db");
    let store = Store::open(&path).unwrap();
    let import = metered("prod-1", "code1", &["d1"]);
    store.import_product(import, now()).await.unwrap();
    let file = Connection::open(&path).unwrap();
    let numbers =
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)";
    let licence =
        "'license:arn:aws:license-manager::294406891311:license:l-' || printf('%032x', i % 1000)";
    let people = [
        format!(
            "{numbers} INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms)
             SELECT 'customer-' || i, 1, 0, 0 FROM n"
        ),
        format!(
            "{numbers} INSERT INTO subscriptions (id, customer_id, product_id, source, holder, license_arn, status,
                 created_at_ms, updated_at_ms)
             SELECT 'sub-' || i, 'customer-' || i, 'prod-1', 'aws', {licence}, substr({licence}, 9), 'active', 0, 0
             FROM n"
        ),
    ];
    for statement in people {
        file.execute(&statement, [CUSTOMERS]).unwrap();
    }
    let deadline = (now() + SignedDuration::from_hours(20)).as_millisecond();
    // Piece by piece, so that the log beside the database is folded in now and then.
    let mut from = 0;
    while from < records {
        let until = records.min(from + PIECE);
        file.execute(
            &format!(
                "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)
                 INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state,
                     deadline_ms, next_attempt_at_ms)
                 SELECT 'prod-1', 'customer-' || (i % 1000), {licence}, 'd1', ?3 + i / 1000, 1000000, ?4, ?5, ?5
                 FROM n"
            ),
            (from, until, first, state, deadline),
        )
        .unwrap();
        from = until;
    }
    store
}

/// The median of a read's times.
async fn median<T>(read: impl AsyncFn() -> T) -> Duration {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        read().await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[TIMES / 2]
}

/// The times of the reads that are about a part of history: each over little and over much.
async fn history(records: i64) -> Vec<(&'static str, Duration)> {
    let folder = tempfile::tempdir().unwrap();
    // The last ten hours are asked about.
    let store = ledger(folder.path(), records, hour() - records / CUSTOMERS, "accepted").await;
    let report = async |from: i64, customer: Option<&str>| {
        let filter = ReportFilter {
            from: ClockHour::from_number(from),
            before: ClockHour::from_number(from + 10),
            product_id: None,
            customer_id: customer.map(CustomerId::new),
        };
        store.metering_report(filter).await.unwrap()
    };
    let of_another =
        RecordFilter { product_id: Some(ProductId::new("other")), ..RecordFilter::default() };
    let list = async || {
        let page = Page { after: None, limit: 100 };
        store.metering_records(of_another.clone(), Order::Newest, page).await.unwrap()
    };
    let found = vec![
        ("report of ten hours", median(async || report(hour() - 10, None).await).await),
        ("report of hours without usage", median(async || report(hour() + 10, None).await).await),
        ("records of a product without any", median(list).await),
    ];
    store.close();
    found
}

/// How long sums over what waits take, and usage beside them; the most memory that it took is printed.
async fn backlog(records: i64) -> Vec<(&'static str, Duration)> {
    let folder = tempfile::tempdir().unwrap();
    let first = hour() - 1 - records / CUSTOMERS;
    let store = ledger(folder.path(), records, first, "ready").await;
    let timing = Timing { grace: SignedDuration::ZERO, window: SignedDuration::from_hours(24) };
    let due = median(async || store.due_hours(timing, now()).await.unwrap()).await;
    let balance = median(async || store.metering_balance().await.unwrap()).await;
    let mut times = Vec::new();
    let summing = store.clone();
    let beside = tokio::spawn(async move {
        loop {
            summing.due_hours(timing, now()).await.unwrap();
        }
    });
    for report in 0..200 {
        let begun = Instant::now();
        let events = (0..100).map(|number| event(format!("{report}-{number}"), number)).collect();
        store.append_usage(events, AgeLimits::default(), now()).await.unwrap();
        times.push(begun.elapsed());
    }
    beside.abort();
    times.sort_unstable();
    store.close();
    vec![("due", due), ("balance", balance), ("usage of 100 events beside them, p90", times[180])]
}

fn print(much: &[(&str, Duration)], little: &[(&str, Duration)]) {
    for ((what, much), (_, little)) in much.iter().zip(little) {
        let ratio = much.as_micros() * 10 / little.as_micros().max(1);
        println!("  {what}: {much:.1?} for {little:.1?}, {}.{} times", ratio / 10, ratio % 10);
    }
}

/// The most memory that the process has had, in KB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::main]
async fn main() {
    let (little, much) = (history(LITTLE).await, history(MUCH).await);
    println!("a history of {MUCH} records for one of {LITTLE}:");
    print(&much, &little);
    let little = backlog(LITTLE).await;
    let before = peak();
    let much = backlog(MUCH).await;
    println!(
        "a backlog of {MUCH} records for one of {LITTLE}; at most {} KB of memory for {before} KB:",
        peak()
    );
    print(&much, &little);
}
