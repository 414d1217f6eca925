//! What the benches share: a line for each figure, beside its target and its floor, and a product to work with.

#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::ledger::AgeLimits;
use marketd::domain::product::Dimension;
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    CustomerId, DimensionKey, EntityId, PlanId, ProductCode, ProductId, Quantity,
};
use marketd::store::{ClosingPolicy, ImportProduct, Listing, Store};
use rusqlite::Connection;

pub(crate) const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// The time of the benches whose time stands still.
pub(crate) fn now() -> Timestamp {
    "2026-11-10T09:30:00Z".parse().unwrap()
}

/// Prints a figure: what was measured, what it should be, what was measured beside it and cannot be beaten, and the
/// ratio of both.
pub(crate) fn say(what: &str, figure: &str, target: &str, floor: &str, ratio: &str) {
    println!("{what}: {figure}; target {target}; floor {floor}; ratio {ratio}");
}

pub(crate) fn per_second(count: usize, took: Duration) -> u128 {
    count as u128 * 1_000_000 / took.as_micros().max(1)
}

/// Returns the ratio of two numbers, with two digits after the point.
pub(crate) fn ratio(of: u128, to: u128) -> String {
    let percent = of * 100 / to.max(1);
    format!("{}.{:02}", percent / 100, percent % 100)
}

/// Returns how fast something was beside its floor: 1 is as fast.
pub(crate) fn speed(floor: Duration, took: Duration) -> String {
    ratio(floor.as_micros(), took.as_micros())
}

/// Returns the middle of several rounds, which says more than the best on a machine that does other things too.
pub(crate) fn middle<T: Ord + Copy>(rounds: &[T]) -> T {
    let mut sorted = rounds.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Returns a number from the environment, or its default.
pub(crate) fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Returns the kilobytes that a process has in memory: all, and those that are not shared with a file.
pub(crate) fn memory(process: &str) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (kilobytes("VmRSS:"), kilobytes("RssAnon:"))
}

pub(crate) fn megabytes(kilobytes: u64) -> String {
    format!("{}.{} MB", kilobytes / 1_024, kilobytes % 1_024 * 10 / 1_024)
}

/// Returns a product that is sold as it goes, by these dimensions.
pub(crate) fn metered(entity: &str, code: &str, dimensions: &[&str]) -> ImportProduct {
    let dimension = |key: &&str| Dimension {
        key: DimensionKey::new(*key),
        name: (*key).into(),
        unit: None,
        types: vec!["ExternallyMetered".into()],
        plan_id: None,
        removed_at: None,
    };
    ImportProduct {
        product_id: None,
        listing: Listing {
            owner: None,
            entity_id: EntityId::new(entity),
            product_code: Some(ProductCode::new(code)),
            title: "Bench".into(),
            visibility: "Public".into(),
            dimensions: dimensions.iter().map(dimension).collect(),
            problems: Vec::new(),
            document: serde_json::Value::Null,
        },
        plans: BTreeMap::new(),
        usage_plan: None,
        features: BTreeMap::new(),
    }
}

/// Returns a product that is sold by contract, for one plan.
pub(crate) fn contract(entity: &str, code: &str, dimension: &str) -> ImportProduct {
    let mut import = metered(entity, code, &[dimension]);
    for listed in &mut import.listing.dimensions {
        listed.types = vec!["Entitled".into()];
    }
    import.plans = BTreeMap::from([(DimensionKey::new(dimension), PlanId::new(dimension))]);
    import
}

/// Returns a customer's usage of one unit, now.
pub(crate) fn event(id: String, customer: usize) -> UsageEvent {
    UsageEvent {
        id,
        customer_id: CustomerId::new(format!("customer-{customer}")),
        subject: UsageSubject::Dimension {
            product_id: ProductId::new("prod-1"),
            dimension: DimensionKey::new("d1"),
        },
        quantity: Quantity::from_units(1),
        timestamp: Some(now()),
        license_arn: None,
        tags: BTreeMap::new(),
    }
}

/// Returns when hours close in the benches: as soon as they are over.
pub(crate) fn closing_at_once() -> ClosingPolicy {
    ClosingPolicy {
        grace: SignedDuration::ZERO,
        window: WINDOW,
        region: "us-east-1".into(),
        zero_usage: false,
    }
}

/// Opens a store with the product that the ledger's benches report to.
pub(crate) async fn ledger(folder: &Path) -> Store {
    let store = Store::open(&folder.join("marketd.db")).unwrap();
    store.import_product(metered("prod-1", "code1", &["d1", "d2", "d3"]), now()).await.unwrap();
    store
}

/// Has each store take reports of new events, so many at a time, until there are no more.
pub(crate) async fn take(stores: &[Store], at_once: usize, reports: Vec<Vec<UsageEvent>>) {
    let left = Arc::new(Mutex::new(reports.into_iter()));
    let reporters = stores.iter().flat_map(|store| std::iter::repeat_n(store, at_once));
    let reporters = reporters.map(|store| {
        let (store, left) = (store.clone(), Arc::clone(&left));
        tokio::spawn(async move {
            let next = || left.lock().unwrap().next();
            while let Some(report) = next() {
                let count = report.len();
                let receipt = store.append_usage(report, AgeLimits::default(), now()).await;
                assert_eq!(receipt.unwrap().accepted, count);
            }
        })
    });
    for reporter in reporters.collect::<Vec<_>>() {
        reporter.await.unwrap();
    }
}

/// The licence of a customer, by SQL's `i`.
pub(crate) const LICENCE: &str =
    "'license:arn:aws:license-manager::294406891311:license:l-' || printf('%032x', i)";

/// Makes so many customers, each with a licence that bears its usage: `customer-0` and on.
pub(crate) fn customers(path: &Path, count: usize) {
    let file = Connection::open(path).unwrap();
    let numbers =
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)";
    let statements = [
        format!(
            "{numbers} INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms)
             SELECT 'customer-' || i, 1, 0, 0 FROM n"
        ),
        format!(
            "{numbers} INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id,
                 license_arn, status, created_at_ms, updated_at_ms)
             SELECT 'sub-' || i, 'customer-' || i, 'prod-1', 'aws', {LICENCE}, printf('%012d', i),
                 substr({LICENCE}, 9), 'active', 0, 0 FROM n"
        ),
    ];
    for statement in statements {
        file.execute(&statement, [i64::try_from(count).unwrap()]).unwrap();
    }
}

/// Makes an open record of each customer's for each of these dimensions, of one unit.
pub(crate) fn records(path: &Path, customers: usize, dimensions: &[&str], hour: i64) {
    let file = Connection::open(path).unwrap();
    for dimension in dimensions {
        file.execute(
            &format!(
                "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
                 INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
                 SELECT 'prod-1', 'customer-' || i, {LICENCE}, ?2, ?3, 1000000, 'open' FROM n"
            ),
            (i64::try_from(customers).unwrap(), dimension, hour),
        )
        .unwrap();
    }
}
