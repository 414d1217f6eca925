//! What a database on a server costs with a millisecond each way between the daemons and it: usage that one worker takes and
//! that several do, in large reports and in single events, consumptions, and looks at buyers.
//!
//! `.ci/postgres cargo bench --bench server` prints each figure beside the same on a wire without delay.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "../tests/support/slow_wire.rs"]
#[allow(dead_code, reason = "tests cut it, a bench does not")]
mod slow_wire;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use marketd::domain::ledger::AgeLimits;
use marketd::domain::reconciliation::{MaxEndings, Patience};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, BuyerRef, DimensionKey, FeatureId, Grant, GrantValue, ProductCode,
};
use marketd::store::{ConsumeRequest, Observation, ObservedBuyer, Place, ServerPlace, Store};
use slow_wire::SlowWire;
use support::{contract, event, metered, now, number, per_second, take};

/// Events of a report.
const BATCH: usize = 1_000;
/// Single requests that are under way at once, for all workers together.
const AT_ONCE: usize = 128;
/// Buyers of a look.
const LOOK: usize = 80;
const DELAY: Duration = Duration::from_millis(1);

/// A schema of its own on the server, reached by a wire.
struct Database {
    url: String,
    server: String,
    schema: String,
}

impl Database {
    fn new(wire: &SlowWire, server: &str) -> Self {
        let schema = format!("bench_{:016x}", fastrand::u64(..));
        Self { url: wire.url(), server: server.to_owned(), schema }
    }

    fn open(&self) -> Store {
        let address: marketd::store::Address = self.url.parse().unwrap();
        let place = ServerPlace::new(address.in_schema(&self.schema), 4);
        Store::open_at(Place::Server(place)).unwrap()
    }

    /// Makes a product and so many customers of it.
    async fn prepare(&self, wire: &SlowWire, customers: usize) {
        wire.delay(Duration::ZERO);
        let store = self.open();
        store.import_product(metered("prod-1", "code1", &["d1"]), now()).await.unwrap();
        store.close();
        self.customers(customers).await;
    }

    /// Makes customers, each with a licence that bears its usage, and with a quota of a feature.
    async fn customers(&self, count: usize) {
        let (client, connection) =
            tokio_postgres::connect(&self.server, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let licence = "'license:arn:aws:license-manager::294406891311:license:l-' || lpad(to_hex(i), 32, '0')";
        let statements = format!(
            "SET search_path = {schema};
             INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms)
             SELECT 'customer-' || i, 1, 0, 0 FROM generate_series(0, {count} - 1) i;
             INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id, license_arn,
                 status, created_at_ms, updated_at_ms)
             SELECT 'sub-' || i, 'customer-' || i, 'prod-1', 'aws', {licence}, lpad(i::text, 12, '0'),
                 substr({licence}, 9), 'active', 0, 0 FROM generate_series(0, {count} - 1) i;
             INSERT INTO features (id, name, type, updated_at_ms) VALUES ('calls', 'Calls', 'metered', 0);
             INSERT INTO feature_dimensions (feature_id, product_id, dimension) VALUES ('calls', 'prod-1', 'd1');
             INSERT INTO plans (id, name, source, status, published_version, created_at_ms, updated_at_ms)
             VALUES ('p', 'P', 'direct', 'published', 1, 0, 0);
             INSERT INTO plan_entitlements (plan_id, version, feature_id, quota, reset, bill)
             VALUES ('p', 1, 'calls', 1000000000000, 'month', 'none');
             UPDATE subscriptions SET plan_id = 'p';
             UPDATE turns SET n = n + 1; ANALYZE;",
            schema = self.schema,
        );
        client.batch_execute(&statements).await.unwrap();
    }
}

/// Reports of so many customers each.
fn reports(count: usize, customers: usize) -> Vec<Vec<UsageEvent>> {
    let one = |number: usize| event(format!("{number:016x}"), number % customers);
    (0..count).map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(one).collect()).collect()
}

/// Has workers take reports, four at a time each.
async fn taken(database: &Database, workers: usize, reports: Vec<Vec<UsageEvent>>) -> Duration {
    let stores: Vec<Store> = (0..workers).map(|_| database.open()).collect();
    let begun = Instant::now();
    take(&stores, 4, reports).await;
    let took = begun.elapsed();
    for store in stores {
        store.close();
    }
    took
}

async fn usage(server: &str, wire: &SlowWire) {
    let count = number("MARKETD_BENCH_REPORTS", 100);
    let of_one =
        [(1, Duration::ZERO), (1, DELAY), (2, DELAY)].map(|(workers, delay)| (1, workers, delay));
    let of_many = [(1, Duration::ZERO), (1, DELAY), (2, DELAY), (4, DELAY), (16, DELAY)];
    let of_many = of_many.map(|(workers, delay)| (1_000, workers, delay));
    for (customers, workers, delay) in of_one.into_iter().chain(of_many) {
        let database = Database::new(wire, server);
        database.prepare(wire, customers).await;
        wire.delay(delay);
        let took = taken(&database, workers, reports(count, customers)).await;
        println!(
            "usage, {customers} customers a report, {workers} workers, {delay:?} each way: {} events/s",
            per_second(count * BATCH, took)
        );
    }
}

/// Has workers take single requests, of 1,000 customers in turn.
async fn requests<F: Future<Output = ()> + Send + 'static>(
    what: &str,
    (server, wire): (&str, &SlowWire),
    send: impl Fn(Store, usize) -> F + Clone + Send + 'static,
) {
    let count = number("MARKETD_BENCH_REQUESTS", 4_000);
    for (workers, delay) in [(1, Duration::ZERO), (1, DELAY), (2, DELAY), (4, DELAY), (16, DELAY)] {
        let database = Database::new(wire, server);
        database.prepare(wire, 1_000).await;
        wire.delay(delay);
        let stores: Vec<Store> = (0..workers).map(|_| database.open()).collect();
        let (begun, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let clients = (0..AT_ONCE).map(|client| {
            let (store, next) = (stores[client % workers].clone(), Arc::clone(&next));
            let send = send.clone();
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    send(store.clone(), number).await;
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        println!(
            "{what}, {AT_ONCE} at once, {workers} workers, {delay:?} each way: {}/s",
            per_second(count, begun.elapsed())
        );
        for store in stores {
            store.close();
        }
    }
}

async fn single_events(store: Store, number: usize) {
    let report = vec![event(format!("{number:016x}"), number % 1_000)];
    let receipt = store.append_usage(report, AgeLimits::default(), now()).await;
    assert_eq!(receipt.unwrap().accepted, 1);
}

async fn consumptions(store: Store, number: usize) {
    let subject = UsageSubject::Feature(FeatureId::new("calls"));
    let event = UsageEvent { subject, ..event(format!("{number:016x}"), number % 1_000) };
    let (limits, stale_since, now) = (AgeLimits::default(), None, now());
    let request = ConsumeRequest { event, limits, stale_since, now };
    assert!(store.consume(request).await.unwrap().unwrap().accepted);
}

/// A look at buyers who each hold one of a contract; `changed` of them hold another number than before.
fn look(buyers: std::ops::Range<usize>, changed: usize, round: i64) -> Observation {
    let entry = |number: usize| {
        let account = AccountId::new(format!("{number:012}"));
        let grant = Grant {
            product_code: ProductCode::new("code1"),
            dimension: DimensionKey::new("seat"),
            customer_identifier: None,
            account_id: Some(account.clone()),
            license_arn: None,
            value: GrantValue::Integer(if number % LOOK < changed { round } else { 1 }),
            expires_at: None,
        };
        ObservedBuyer {
            buyer: BuyerRef::Account(account),
            settles: None,
            answer: Some(vec![grant]),
        }
    };
    let observed_at = now() + SignedDuration::from_mins(round);
    let (product_code, entries) = (ProductCode::new("code1"), buyers.map(entry).collect());
    Observation { product_code, observed_at, entries }
}

fn patience() -> Patience {
    Patience {
        second_look: SignedDuration::from_secs(10),
        expiry_grace: SignedDuration::from_hours(1),
        max_endings: MaxEndings::default(),
    }
}

async fn looks(server: &str, wire: &SlowWire) {
    let count = number("MARKETD_BENCH_LOOKS", 50);
    for delay in [Duration::ZERO, DELAY] {
        let database = Database::new(wire, server);
        wire.delay(Duration::ZERO);
        let store = database.open();
        store.import_product(contract("prod-1", "code1", "seat"), now()).await.unwrap();
        wire.delay(delay);
        let rows = [
            ("new", LOOK, 1),
            ("as before", 0, 2),
            ("one in 80 changed", 1, 3),
            ("all changed", LOOK, 4),
        ];
        for (what, changed, round) in rows {
            let begun = Instant::now();
            let mut changes = 0;
            for part in 0..count {
                let look = look(part * LOOK..(part + 1) * LOOK, changed, round);
                let at = look.observed_at;
                changes += store.apply_observation(look, patience(), at).await.unwrap().changes;
            }
            assert_eq!(changes, count * changed);
            println!(
                "looks at {LOOK} buyers, {what}, {delay:?} each way: {} buyers/s",
                per_second(count * LOOK, begun.elapsed())
            );
        }
        store.close();
    }
}

fn main() {
    let Ok(server) = std::env::var("MARKETD_TEST_DATABASE_URL") else {
        println!("left out: MARKETD_TEST_DATABASE_URL names no server; .ci/postgres has one");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let wire = SlowWire::to(&server, Duration::ZERO);
    runtime.block_on(usage(&server, &wire));
    runtime.block_on(requests("reports of one event", (&server, &wire), single_events));
    runtime.block_on(requests("consumptions", (&server, &wire), consumptions));
    runtime.block_on(looks(&server, &wire));
}
