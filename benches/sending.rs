//! How records go out at AWS's limit on calls: in how many calls and how long beside the fewest and the shortest, after an
//! outage too, and what a large backlog costs whoever reports meanwhile.
//!
//! `cargo bench --bench sending`, or with a name: `throttled`, `outage`, `backlog`. `BACKLOG` is how many records wait, a
//! million by default.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use marketd::aws::RateLimit;
use marketd::clock::Clock;
use marketd::domain::ClockHour;
use marketd::domain::ledger::{AgeLimits, Answer};
use marketd::health::Health;
use marketd::metering::{Breaker, CallAnswer, FrozenCall, MeteringApi, MeteringEngine};
use marketd::store::Store;
use marketd::supervisor::endure;
use support::{closing_at_once, customers, event, ledger, megabytes, memory, middle, now, number};
use support::{ratio, records, say, speed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Records that AWS takes in a call.
const A_CALL: usize = 25;
const ANSWERS_AFTER: Duration = Duration::from_millis(30);

/// AWS with its limit on calls, asked at the pace that marketd keeps.
#[derive(Clone)]
struct Limited {
    rate: Arc<RateLimit>,
    a_second: u32,
    bucket: Arc<Mutex<Bucket>>,
    calls: Arc<AtomicUsize>,
}

/// A token bucket, as AWS throttles: each call costs its share of a second.
struct Bucket {
    since: Instant,
    held: Duration,
}

impl Limited {
    /// AWS that lets so many calls a second through, and two at once.
    fn new(set: u32, a_second: u32) -> Self {
        Self {
            rate: Arc::new(RateLimit::per_second(set).documented(a_second)),
            a_second,
            bucket: Arc::new(Mutex::new(Bucket { since: Instant::now(), held: Duration::ZERO })),
            calls: Arc::default(),
        }
    }

    fn takes(&self) -> bool {
        let share = Duration::from_secs(1) / self.a_second;
        let mut bucket = self.bucket.lock().unwrap();
        let now = Instant::now();
        bucket.held = (bucket.held + (now - bucket.since)).min(share * 2);
        bucket.since = now;
        let left = bucket.held.checked_sub(share);
        bucket.held = left.unwrap_or(bucket.held);
        left.is_some()
    }
}

impl MeteringApi for Limited {
    async fn send(&self, call: &FrozenCall) -> CallAnswer {
        let turn = self.rate.acquire().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(ANSWERS_AFTER).await;
        if !self.takes() {
            turn.throttled();
            return CallAnswer::Failed(Answer::Throttled);
        }
        turn.answered();
        let id = |at: usize| Answer::Success { metering_record_id: format!("id-{at}").into() };
        CallAnswer::Answered((0..call.records.len()).map(id).collect())
    }
}

/// AWS that does not answer.
#[derive(Clone)]
struct Away;

impl MeteringApi for Away {
    async fn send(&self, _: &FrozenCall) -> CallAnswer {
        CallAnswer::Failed(Answer::Unanswered("no route".into()))
    }
}

fn engine<A: MeteringApi>(
    store: &Store,
    api: A,
    clock: Clock,
    breaker: Breaker,
) -> MeteringEngine<A> {
    MeteringEngine {
        store: store.clone(),
        api,
        clock,
        health: Health::default(),
        closing: closing_at_once(),
        interval: Duration::from_secs(1),
        concurrency: 8,
        breaker,
    }
}

fn hour(ago: i64) -> i64 {
    ClockHour::of(now()).number() - ago
}

/// A clock that runs from the benches' time on, so that what goes out too late is parked and missed.
fn running() -> Clock {
    let begun = Instant::now();
    let at = move || now() + SignedDuration::try_from(begun.elapsed()).unwrap();
    let (_, moves) = tokio::sync::watch::channel(0);
    Clock::following(at, moves)
}

/// Sends all that waits, and prints how it went beside full calls at AWS's limit.
async fn send_all(what: &str, store: &Store, waiting: usize, a_second: u32, breaker: Breaker) {
    let api = Limited::new(a_second, a_second);
    let (begun, clock) = (Instant::now(), running());
    let mut accepted = 0;
    // A breaker that is open asks first, and a pass ends where it has to wait for that.
    while accepted < waiting {
        let engine = engine(store, api.clone(), clock.clone(), breaker.clone());
        accepted += engine.run_pass().await.unwrap().accepted;
        assert!(begun.elapsed() < Duration::from_secs(600), "{accepted} of {waiting}");
    }
    let (took, calls) = (begun.elapsed(), api.calls.load(Ordering::Relaxed));
    let fewest = waiting / A_CALL;
    let floor = Duration::from_secs(1) * u32::try_from(fewest).unwrap() / a_second;
    say(
        what,
        &format!("{took:.1?}, {calls} calls, each by its deadline"),
        "at most 1.1 of the floor in both",
        &format!("{floor:.1?}, {fewest} calls"),
        &format!(
            "{} in time, {} in calls",
            ratio(took.as_micros(), floor.as_micros()),
            ratio(calls as u128, fewest as u128)
        ),
    );
}

async fn throttled() {
    let folder = tempfile::tempdir().unwrap();
    let store = ledger(folder.path()).await;
    let path = folder.path().join("marketd.db");
    customers(&path, 1_500);
    records(&path, 1_500, &["d1"], hour(2));
    send_all("1500 records at 10 calls a second", &store, 1_500, 10, Breaker::default()).await;
    store.close();
}

/// Twenty hours of two thousand customers' usage of three dimensions, which nobody answered. The calls after it are
/// four times as many a second as AWS allows by default, so that the bench takes two minutes and not eight.
async fn outage() {
    const CUSTOMERS: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let store = ledger(folder.path()).await;
    let path = folder.path().join("marketd.db");
    customers(&path, CUSTOMERS);
    let breaker = Breaker::default();
    for ago in (1..=20).rev() {
        let of = hour(ago);
        records(&path, CUSTOMERS, &["d1", "d2", "d3"], of);
        for minute in (0..60).step_by(5) {
            let at = now() - SignedDuration::from_mins(ago * 60 - minute);
            engine(&store, Away, Clock::manual(at), breaker.clone()).run_pass().await.unwrap();
        }
    }
    let what = "120000 records of an outage of 20 h, at 40 calls a second for 10";
    send_all(what, &store, CUSTOMERS * 3 * 20, 40, breaker).await;
    store.close();
}

/// The time that nine of ten reports of a hundred events take at most.
async fn usage_p90(store: &Store, round: usize) -> Duration {
    let mut times = Vec::new();
    for report in 0..50 {
        let events = (0..100).map(|number| event(format!("{round}-{report}-{number}"), number));
        let begun = Instant::now();
        store.append_usage(events.collect(), AgeLimits::default(), now()).await.unwrap();
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    times.sort_unstable();
    times[times.len() * 9 / 10]
}

/// A ledger whose records go out at AWS's default limit.
async fn sending(folder: &Path, waiting: usize) -> (Store, CancellationToken, JoinHandle<()>) {
    let store = ledger(folder).await;
    let path = folder.join("marketd.db");
    let holders = 50_000;
    customers(&path, holders);
    for ago in 0..i64::try_from(waiting / holders).unwrap() {
        let of = hour(ago + 1);
        records(&path, holders, &["d1"], of);
    }
    store.close_hours(closing_at_once(), now()).await.unwrap();
    let engine = engine(&store, Limited::new(10, 10), running(), Breaker::default());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { endure(engine, stopped).await.unwrap() });
    (store, stop, running)
}

async fn backlog() {
    let waiting = number("BACKLOG", 1_000_000);
    let (few, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (floor, stop_floor, floor_ends) = sending(few.path(), 0).await;
    let (store, stop, ends) = sending(many.path(), waiting).await;
    let (mut none, mut much) = (Vec::new(), Vec::new());
    for round in 0..3 {
        none.push(usage_p90(&floor, round).await);
        much.push(usage_p90(&store, round).await);
    }
    let (none, much) = (middle(&none), middle(&much));
    say(
        &format!("usage p90 beside {waiting} records that wait"),
        &format!("{much:.1?}"),
        "at most 2 times as long",
        &format!("{none:.1?} beside none"),
        &speed(much, none),
    );
    let (resident, own) = memory("self");
    let figure = format!("{} resident, {} own", megabytes(resident), megabytes(own));
    say("memory with both of them", &figure, "under 200 MB", "none", "none");
    for (store, stop, ends) in [(floor, stop_floor, floor_ends), (store, stop, ends)] {
        stop.cancel();
        ends.await.unwrap();
        store.close();
    }
}

#[tokio::main]
async fn main() {
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("throttled") {
        throttled().await;
    }
    if wanted("outage") {
        outage().await;
    }
    if wanted("backlog") {
        backlog().await;
    }
}
