//! The binary for an hour under a steady load: memory stays flat, the log beside the database bounded, answers do not become
//! slower, and AWS's ledger holds what was answered with a 2xx. The gate has a minute of it; the whole hour is
//! `MARKETD_SOAK_MINUTES=60 cargo test --release --test soak -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "it says how far it is")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use marketd::sandbox::market::{Action, Order, Product};
use marketd::sandbox::{Fault, FaultKind};
use reqwest::Client;
use serde_json::{Value, json};
use support::world::{World, eventually};
use tokio_util::sync::CancellationToken;

/// Buyers at once, each of whom subscribes, uses, leaves, and is followed by another.
const SEATS: u64 = 8;
const REPORTS: u64 = 40;
const EVENTS: u64 = 20;
/// Between two reports of a buyer's.
const PAUSE: Duration = Duration::from_millis(100);
/// The spans of time that are compared.
const SPANS: u32 = 8;
/// Memory that is the process's own, in KB.
const MOST_MEMORY: u64 = 120 * 1_024;
/// The most that memory may grow by over the last half of an hour, in KB; a minute is too short to say.
const MOST_GROWTH: u64 = 4 * 1_024;
/// The journal's own limit, to which a checkpoint cuts it.
const MOST_WAL: u64 = 64 * 1_024 * 1_024;

/// What a span of time was like.
#[derive(Debug, Default)]
struct Span {
    usage: Vec<Duration>,
    access: Vec<Duration>,
    /// Answers that need nothing: what they take is the machine's doing.
    floor: Vec<Duration>,
    memory: u64,
    wal: u64,
}

impl Span {
    /// The time that so many of a hundred answers took at most.
    fn percentile(times: &mut [Duration], of_hundred: usize) -> Duration {
        times.sort_unstable();
        times.get(times.len() * of_hundred / 100).copied().unwrap_or_default()
    }
}

#[derive(Clone)]
struct Load {
    http: Client,
    url: String,
    now: Arc<Mutex<Span>>,
    stop: CancellationToken,
}

impl Load {
    /// Makes a call until it is answered well, and returns how long the answer took.
    async fn call(
        &self,
        request: impl Fn(&Client) -> reqwest::RequestBuilder,
    ) -> (Value, Duration) {
        eventually("an answer", async || {
            let begun = Instant::now();
            let answer = request(&self.http).send().await.ok()?.error_for_status().ok()?;
            let body = answer.bytes().await.ok()?;
            Some((serde_json::from_slice(&body).unwrap_or_default(), begun.elapsed()))
        })
        .await
    }

    /// Buyers one after another until told to stop; returns the units that were taken.
    async fn sit(self, world: &World, seat: u64) -> u64 {
        let product = world.product("Acme Stream");
        let (mut taken, mut number) = (0, 0);
        while !self.stop.is_cancelled() {
            number += 1;
            taken += self.one_buyer(world, &product, seat * 1_000_000 + number).await;
        }
        taken
    }

    fn note(&self, usage: Duration, access: Duration, floor: Duration) {
        let mut now = self.now.lock().unwrap();
        now.usage.push(usage);
        now.access.push(access);
        now.floor.push(floor);
    }

    async fn one_buyer(&self, world: &World, product: &Product, number: u64) -> u64 {
        let account = format!("{:012}", 600_000_000_000 + number);
        let order = Order::of(&product.product_code);
        world.act(&account, Action::Subscribe(order.clone()));
        let customer = format!("buyer-{number}");
        let place = format!("{}/v1/customers/{customer}", self.url);
        let aws = json!({"aws": {"account_id": account}});
        self.call(|http| http.put(&place).json(&aws)).await;
        let mut taken = 0;
        for report in 0..REPORTS {
            let events: Vec<Value> = (0..EVENTS)
                .map(|event| {
                    json!({
                        "id": format!("{number}-{report}-{event}"), "customer_id": customer,
                        "product_id": product.entity_id, "dimension": "requests", "quantity": 3,
                    })
                })
                .collect();
            let (body, usage) = (json!({"events": events}), format!("{}/v1/usage", self.url));
            let (receipt, took) = self.call(|http| http.post(&usage).json(&body)).await;
            let kept =
                [&receipt["accepted"], &receipt["duplicates"]].map(|it| it.as_u64().unwrap());
            assert_eq!(kept.into_iter().sum::<u64>(), EVENTS, "{receipt}");
            taken += EVENTS * 3;
            let (_, asked) = self.call(|http| http.get(format!("{place}/entitlements"))).await;
            let (_, floor) = self.call(|http| http.get(format!("{}/healthz", self.url))).await;
            self.note(took, asked, floor);
            tokio::time::sleep(PAUSE).await;
        }
        world.act(&account, Action::Cancel(order));
        taken
    }
}

/// Memory of a process that is its own, in KB.
fn memory_of(process: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn minutes() -> u64 {
    std::env::var("MARKETD_SOAK_MINUTES").map_or(1, |minutes| minutes.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_leaves_memory_flat_answers_as_fast_and_the_books_equal() {
    let mut world = World::with_imported_catalog(&[]).await;
    for operation in ["BatchMeterUsage", "GetEntitlements", "ReceiveMessage"] {
        let kind = FaultKind::Throttle;
        world.arm(Fault {
            operation: operation.into(),
            kind,
            times: None,
            one_in: Some(20),
            amount: None,
        });
    }
    let daemon = world.take_daemon();
    let process = daemon.id().unwrap();
    world.give_daemon(daemon);
    let load = Load {
        http: Client::new(),
        url: world.url().to_owned(),
        now: Arc::default(),
        stop: CancellationToken::new(),
    };
    let seats = (0..SEATS).map(|seat| load.clone().sit(&world, seat));
    let watching = watch(&world, &load, process);
    let (taken, spans) = tokio::join!(futures::future::join_all(seats), watching);
    let taken: u64 = taken.into_iter().sum();

    let balance = eventually("everything billed", async || {
        let balance = world.get("/v1/metering/balance").await;
        (balance["pending"] == "0").then_some(balance)
    })
    .await;
    let billed: u64 = world.market(|market, _| {
        let honoured = market.ledger().honoured();
        assert!(honoured.iter().all(|it| !it.billed_twice));
        honoured.iter().map(|it| it.quantity.normalize().to_string().parse::<u64>().unwrap()).sum()
    });
    assert_eq!(balance["adds_up"], true, "{balance}");
    assert_eq!((balance["accepted"].as_str(), billed), (Some(&*taken.to_string()), taken));
    judge(spans);
    world.stop().await;
}

/// Measures span by span, and has the load stop at the end.
async fn watch(world: &World, load: &Load, process: u32) -> Vec<Span> {
    let mut spans = Vec::new();
    for number in 1..=SPANS {
        tokio::time::sleep(Duration::from_secs(minutes() * 60) / SPANS).await;
        let mut span = std::mem::take(&mut *load.now.lock().unwrap());
        span.memory = memory_of(process);
        span.wal = std::fs::metadata(world.file("marketd.db-wal")).map_or(0, |it| it.len());
        let usage = [50, 99].map(|of| Span::percentile(&mut span.usage, of));
        let access = [50, 99].map(|of| Span::percentile(&mut span.access, of));
        eprintln!(
            "{number}/{SPANS}: {} reports, p50 and p99 {usage:.1?}, access {access:.1?}, own memory {} KB, log {} KB",
            span.usage.len(),
            span.memory,
            span.wal / 1_024
        );
        spans.push(span);
    }
    load.stop.cancel();
    spans
}

/// Compares the last quarter with the one after the first, in which everything was new.
fn judge(mut spans: Vec<Span>) {
    for span in &spans {
        assert!(!span.usage.is_empty(), "nothing was answered");
        assert!(span.memory < MOST_MEMORY, "{} KB", span.memory);
        assert!(span.wal <= MOST_WAL, "{} bytes", span.wal);
    }
    let last = spans.pop().unwrap();
    if minutes() >= 10 {
        let middle = &spans[spans.len() / 2];
        let grown = last.memory.saturating_sub(middle.memory);
        assert!(grown < MOST_GROWTH, "{grown} KB more than in the middle");
    }
    let mut early = spans.swap_remove(2);
    let mut last = last;
    let early_floor = Span::percentile(&mut early.floor, 50).as_micros();
    let late_floor = Span::percentile(&mut last.floor, 50).as_micros();
    for (what, mut early, mut late) in
        [("usage", early.usage, last.usage), ("access", early.access, last.access)]
    {
        let (early, late) = (Span::percentile(&mut early, 50), Span::percentile(&mut late, 50));
        // Whatever else the machine does slows down what needs nothing as well.
        let creeps = late.as_micros() * early_floor > 3 * early.as_micros() * late_floor;
        assert!(
            !creeps,
            "{what}: {early:?} where nothing took {early_floor} µs, then {late:?} for {late_floor} µs"
        );
    }
}
