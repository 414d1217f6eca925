//! A backlog that takes long to send: what cannot wait does not wait for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use marketd::metering::{CallAnswer, FrozenCall, MeteringApi, MeteringEngine};
use marketd::sandbox::market::Action;
use support::aws::Aws;
use support::books::{Books, account};
use tokio::sync::Notify;

/// More than is taken off the list at once.
const BUYERS: usize = 2_300;

/// AWS, with a pause in the tenth call for what happens meanwhile.
#[derive(Clone)]
struct Slow {
    aws: Aws,
    calls: Arc<AtomicUsize>,
    paused: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl MeteringApi for Slow {
    async fn send(&self, call: &FrozenCall) -> CallAnswer {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 10 {
            self.paused.notify_one();
            self.go_on.notified().await;
        }
        self.aws.send(call).await
    }
}

#[tokio::test]
async fn a_last_hour_does_not_wait_for_the_end_of_a_long_backlog() {
    let mut books = Books::open(1, "Acme Stream", BUYERS).await;
    let subject = books.dimension("gb");
    let customers = books.customers().await;
    let mut events = Vec::new();
    for customer in &customers {
        events.push(books.event(customer, subject.clone(), "1"));
    }
    assert_eq!(books.take(events).await.accepted, customers.len());
    books.pass_minutes(62);
    let leaver = books.customer(0).await;
    let last = books.event(&leaver, subject, "7");
    assert_eq!(books.take(vec![last]).await.accepted, 1);

    let api = Slow {
        aws: books.aws.clone(),
        calls: Arc::default(),
        paused: Arc::default(),
        go_on: Arc::default(),
    };
    let engine = MeteringEngine {
        store: books.store.clone(),
        api: api.clone(),
        clock: books.aws.clock.clone(),
        health: books.health.clone(),
        closing: books.closing.clone(),
        interval: std::time::Duration::from_secs(1),
        concurrency: 1,
    };
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
