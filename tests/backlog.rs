//! A backlog that takes long to send: what cannot wait does not wait for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use marketd::aws::RateLimit;
use marketd::domain::ledger::Answer;
use marketd::metering::{CallAnswer, FrozenCall, MeteringApi, MeteringEngine};
use marketd::sandbox::market::Action;
use support::aws::Aws;
use support::books::{Books, account};
use tokio::sync::Notify;
use tokio::time::Instant;

/// More than is taken off the list at once.
const BUYERS: usize = 2_300;

/// AWS, with a pause in one call for what happens meanwhile.
#[derive(Clone)]
struct Slow {
    aws: Aws,
    /// Calls before the one that pauses.
    before: usize,
    calls: Arc<AtomicUsize>,
    paused: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl MeteringApi for Slow {
    async fn send(&self, call: &FrozenCall) -> CallAnswer {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.before {
            self.paused.notify_one();
            self.go_on.notified().await;
        }
        self.aws.send(call).await
    }
}

fn slow_engine(books: &Books, before: usize) -> (Slow, MeteringEngine<Slow>) {
    let api = Slow {
        aws: books.aws.clone(),
        before,
        calls: Arc::default(),
        paused: Arc::default(),
        go_on: Arc::default(),
    };
    (api.clone(), engine(books, api, 1))
}

fn engine<A>(books: &Books, api: A, concurrency: usize) -> MeteringEngine<A> {
    MeteringEngine {
        store: books.store.clone(),
        api,
        clock: books.aws.clock.clone(),
        health: books.health.clone(),
        closing: books.closing.clone(),
        interval: Duration::from_secs(1),
        concurrency,
        breaker: books.breaker.clone(),
    }
}

/// Books in which every buyer used something in an hour that is over.
async fn everybody_used_something(seed: u64, buyers: usize) -> Books {
    let mut books = Books::open(seed, "Acme Stream", buyers).await;
    everybody_uses_something(&mut books).await;
    books.pass_minutes(62);
    books
}

async fn everybody_uses_something(books: &mut Books) {
    let subject = books.dimension("gb");
    let customers = books.customers().await;
    let mut events = Vec::new();
    for customer in &customers {
        events.push(books.event(customer, subject.clone(), "1"));
    }
    assert_eq!(books.take(events).await.accepted, customers.len());
}

#[tokio::test]
async fn a_last_hour_does_not_wait_for_the_end_of_a_long_backlog() {
    let mut books = everybody_used_something(1, BUYERS).await;
    let subject = books.dimension("gb");
    let customers = books.customers().await;
    let leaver = books.customer(0).await;
    let last = books.event(&leaver, subject, "7");
    assert_eq!(books.take(vec![last]).await.accepted, 1);

    let (api, engine) = slow_engine(&books, 10);
    let meanwhile = async {
        api.paused.notified().await;
        books.act(&account(0), Action::Cancel(books.order()));
        books.pass_minutes(1);
        books.hear().await;
        api.go_on.notify_one();
    };
    let (summary, ()) = tokio::join!(engine.run_pass(), meanwhile);
    assert_eq!(summary.unwrap().accepted, customers.len() + 1);
    let market = books.aws.market.lock().unwrap();
    let mut honoured = market.ledger().honoured().iter();
    let place = honoured.position(|it| it.quantity == 7.into()).unwrap();
    assert!(place < customers.len(), "it went out before the rest of the backlog: {place}");
}

#[tokio::test]
async fn how_a_long_pass_goes_is_told_before_it_ends() {
    let books = everybody_used_something(2, BUYERS).await;
    // In the second batch, when the first is done.
    let (api, engine) = slow_engine(&books, 85);
    let meanwhile = async {
        api.paused.notified().await;
        let part = books.health.parts().get("metering").cloned();
        api.go_on.notify_one();
        part
    };
    let (summary, part) = tokio::join!(engine.run_pass(), meanwhile);
    assert_eq!(summary.unwrap().accepted, BUYERS);
    assert!(part.is_some_and(|part| part.ok), "the board knows while the pass goes on");
}

/// AWS with its limit on calls, asked at the pace that marketd keeps. Time is tokio's, which the tests hold still.
#[derive(Clone)]
struct Limited {
    aws: Aws,
    rate: Arc<RateLimit>,
    bucket: Arc<Mutex<Bucket>>,
    calls: Arc<AtomicUsize>,
}

/// A token bucket, as AWS throttles.
struct Bucket {
    since: Instant,
    /// In units of time, each call costs its share of a second.
    held: Duration,
    most: Duration,
}

const AWS_PER_SECOND: u32 = 10;

impl Bucket {
    fn takes(&mut self) -> bool {
        let now = Instant::now();
        self.held = (self.held + (now - self.since)).min(self.most);
        self.since = now;
        let left = self.held.checked_sub(Duration::from_secs(1) / AWS_PER_SECOND);
        self.held = left.unwrap_or(self.held);
        left.is_some()
    }
}

impl Limited {
    fn new(aws: Aws, set: u32, at_once: u32) -> Self {
        let most = Duration::from_secs(1) / AWS_PER_SECOND * at_once;
        let bucket = Bucket { since: Instant::now(), held: most, most };
        Self {
            aws,
            rate: Arc::new(RateLimit::per_second(set).documented(AWS_PER_SECOND)),
            bucket: Arc::new(Mutex::new(bucket)),
            calls: Arc::default(),
        }
    }
}

impl MeteringApi for Limited {
    async fn send(&self, call: &FrozenCall) -> CallAnswer {
        let turn = self.rate.acquire().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(30)).await;
        if !self.bucket.lock().unwrap().takes() {
            turn.throttled();
            return CallAnswer::Failed(Answer::Throttled);
        }
        let answer = self.aws.send(call).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        if !matches!(answer, CallAnswer::Failed(_)) {
            turn.answered();
        }
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_backlog_goes_out_at_aws_s_limit_in_the_fewest_calls() {
    const RECORDS: usize = 1_500;
    let fewest = RECORDS / 25;
    for (set, at_once) in [(10, 2), (50, 10)] {
        let books = everybody_used_something(3, RECORDS).await;
        let api = Limited::new(books.aws.clone(), set, at_once);
        let begun = Instant::now();
        let summary = engine(&books, api.clone(), 8).run_pass().await.unwrap();
        let (took, calls) = (begun.elapsed(), api.calls.load(Ordering::Relaxed));
        assert_eq!((summary.accepted, summary.waiting), (RECORDS, 0), "{summary:?}");
        let shown = format!("{set} set, {at_once} at once: {calls} calls for {fewest}, {took:?}");
        assert!(calls * 10 <= fewest * 11, "{shown}");
        assert!(took <= Duration::from_millis(6_600), "{shown}");
        assert!(books.records().await.iter().all(|it| it.attempts == 1), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_out_an_outage_goes_out_at_once_and_by_deadline() {
    const BUYERS: usize = 150;
    const HOURS: usize = 20;
    let mut books = Books::open(4, "Acme Stream", BUYERS).await;
    books.aws.faults.lock().unwrap().always = Some(Answer::Unanswered("no route".into()));
    let mut calls = 0;
    for _ in 0..HOURS {
        everybody_uses_something(&mut books).await;
        for _ in 0..12 {
            books.pass_minutes(5);
            calls += books.run_pass().await.calls;
        }
    }
    // AWS is asked again; what was tried last would wait longer.
    books.pass(SignedDuration::from_secs(31));
    let tried: i64 = books.records().await.iter().map(|it| it.attempts).sum();
    assert!(calls <= 12 * HOURS + 10, "asked now and then: {calls} calls");
    assert!(tried <= 12 * 20 + 200, "by one record each time: {tried} attempts");

    books.aws.faults.lock().unwrap().always = None;
    let api = Limited::new(books.aws.clone(), 10, 10);
    let begun = Instant::now();
    let summary = engine(&books, api.clone(), 8).run_pass().await.unwrap();
    let (took, calls) = (begun.elapsed(), api.calls.load(Ordering::Relaxed));
    let records = BUYERS * HOURS;
    // Calls hold records of any hour, so the floor is that of full calls.
    let fewest = records / 25;
    let shown = format!("{calls} calls for {fewest}, {took:?}");
    assert_eq!(summary.accepted, records, "{shown}: {summary:?}");
    assert!(calls * 10 <= fewest * 11, "{shown}");
    assert!(
        took * 10 <= Duration::from_millis(100) * 11 * u32::try_from(fewest).unwrap(),
        "{shown}"
    );
    let market = books.aws.market.lock().unwrap();
    let hours: Vec<_> = market.ledger().honoured().iter().map(|it| it.hour).collect();
    // The first is the one that asked.
    assert!(hours[1..].is_sorted(), "nearest deadline first");
}
