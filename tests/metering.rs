//! The ledger over AWS's rules, in virtual time: what is reported is billed once, whatever answers are lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use marketd::clock::Clock;
use marketd::domain::reconciliation::Patience;
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, BuyerRef, CustomerId, DimensionKey, ProductCode, ProductId, Quantity,
};
use marketd::health::Health;
use marketd::metering::MeteringEngine;
use marketd::sandbox::market::{Action, Channel, IdenticalRetry, Market, Options, Order, Product};
use marketd::store::{Closing, Incoming, Look, LookEntry, Page, RecordFilter, RecordRow, Store};
use support::aws::Aws;

const START: &str = "2026-11-10T09:05:00Z";
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// A seller with one licensed pay-as-you-go product and its buyers.
struct Books {
    folder: tempfile::TempDir,
    store: Store,
    aws: Aws,
    product: Product,
    reports: usize,
}

impl Books {
    async fn open(seed: u64, buyers: usize) -> Self {
        let clock = Clock::manual(START.parse().unwrap());
        let mut market = Market::with_demo_catalog(seed);
        let product = market.products().find(|it| it.title == "Acme Stream").unwrap().clone();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        store.import_product(support::import(&product), clock.now()).await.unwrap();
        for number in 0..buyers {
            let order = Order::of(&product.product_code);
            market.act(clock.now(), &account(number), Action::Subscribe(order)).unwrap();
        }
        let aws = Aws::new(market, clock);
        let mut books = Self { folder, store, aws, product, reports: 0 };
        books.hear_and_look(buyers).await;
        books
    }

    fn now(&self) -> Timestamp {
        self.aws.clock.now()
    }

    fn pass_time(&self, by: SignedDuration) {
        self.aws.clock.set(self.now() + by);
    }

    /// Takes in what AWS has published, and looks at every buyer.
    async fn hear_and_look(&mut self, buyers: usize) {
        let now = self.now();
        let sent = self.aws.market.lock().unwrap().take_outgoing(now);
        let incoming = sent
            .iter()
            .filter_map(|outgoing| match &outgoing.channel {
                Channel::EventBridge { event } => Some(event.to_string()),
                Channel::Sns { .. } => None,
            })
            .map(|body| {
                let delivery = marketd::intake::wire::Delivery {
                    body: &body,
                    transport_id: "t",
                    sent_at: now,
                };
                Incoming::Notification(Box::new(marketd::intake::wire::read(delivery).unwrap()))
            })
            .collect();
        self.store.record_notifications(incoming, now).await.unwrap();
        let entries = (0..buyers)
            .map(|number| LookEntry {
                buyer: BuyerRef::Account(AccountId::new(account(number))),
                settles: None,
                answer: None,
            })
            .collect();
        let look = Look {
            product_code: ProductCode::new(&self.product.product_code),
            observed_at: now,
            entries,
        };
        let patience = Patience {
            second_look: SignedDuration::from_secs(1),
            expiry_grace: SignedDuration::from_hours(1),
        };
        self.store.apply_look(look, patience, now).await.unwrap();
    }

    async fn customers(&self) -> Vec<CustomerId> {
        let page = Page { after: None, limit: 100 };
        self.store.customers(page).await.unwrap().into_iter().map(|it| it.id).collect()
    }

    async fn report(
        &mut self,
        customer: &CustomerId,
        dimension: &str,
        quantity: &str,
        at: Timestamp,
    ) {
        self.reports += 1;
        let event = UsageEvent {
            id: format!("e-{}", self.reports),
            customer_id: customer.clone(),
            subject: UsageSubject::Dimension {
                product_id: ProductId::new(&self.product.entity_id),
                dimension: DimensionKey::new(dimension),
            },
            quantity: quantity.parse().unwrap(),
            timestamp: Some(at),
            license_arn: None,
            tags: BTreeMap::new(),
        };
        let receipt = self.store.append_usage(vec![event], WINDOW, self.now()).await.unwrap();
        assert_eq!(receipt.accepted, 1, "{receipt:?}");
    }

    fn engine(&self) -> MeteringEngine<Aws> {
        MeteringEngine {
            store: self.store.clone(),
            api: self.aws.clone(),
            clock: self.aws.clock.clone(),
            health: Health::default(),
            closing: Closing {
                grace: SignedDuration::from_mins(5),
                window: WINDOW,
                region: "us-east-1".into(),
                zero_usage: false,
            },
            interval: Duration::from_secs(1),
            concurrency: 1,
        }
    }

    async fn records(&self) -> Vec<RecordRow> {
        let page = Page { after: None, limit: 10_000 };
        self.store.metering_records(RecordFilter::default(), page).await.unwrap()
    }

    async fn shown(&self) -> Vec<String> {
        let line = |it: RecordRow| {
            let hour = it.hour.to_string();
            format!("{} {} {} {}", hour.get(11..13).unwrap(), it.dimension, it.quantity, it.state)
        };
        self.records().await.into_iter().map(line).collect()
    }

    async fn assert_adds_up(&self) {
        for (product, balance) in self.store.metering_balance().await.unwrap() {
            assert!(balance.adds_up(), "{product}: {balance:?}");
        }
    }
}

fn account(number: usize) -> String {
    format!("{:012}", 700_000_000_000 + number)
}

#[tokio::test]
async fn usage_for_a_frozen_hour_goes_to_a_later_one() {
    let mut books = Books::open(1, 1).await;
    let customer = books.customers().await.remove(0);
    let morning = books.now();
    books.report(&customer, "gb", "5", morning).await;
    books.pass_time(SignedDuration::from_mins(62));
    books.engine().run_pass().await.unwrap();
    assert_eq!(books.shown().await, ["09 gb 5 accepted"]);

    books.report(&customer, "gb", "2", morning).await;
    assert_eq!(books.shown().await, ["09 gb 5 accepted", "10 gb 2 open"]);
    books.pass_time(SignedDuration::from_hours(1));
    books.engine().run_pass().await.unwrap();
    assert_eq!(books.shown().await, ["09 gb 5 accepted", "10 gb 2 accepted"]);
    books.assert_adds_up().await;
}

#[tokio::test]
async fn fractions_wait_until_they_are_whole() {
    let mut books = Books::open(2, 1).await;
    let customer = books.customers().await.remove(0);
    for _ in 0..3 {
        books.report(&customer, "gb", "0.4", books.now()).await;
        books.pass_time(SignedDuration::from_hours(1));
        books.engine().run_pass().await.unwrap();
    }
    assert_eq!(books.shown().await, ["11 gb 1 accepted", "12 gb 0.2 open"]);
    books.assert_adds_up().await;
}

#[tokio::test]
async fn a_poisoned_record_is_parked_alone() {
    let mut books = Books::open(3, 8).await;
    books.aws.faults.lock().unwrap().poison = Some("gb");
    let customers = books.customers().await;
    for customer in &customers {
        books.report(customer, "requests", "7", books.now()).await;
    }
    let one = customers.first().unwrap().clone();
    books.report(&one, "gb", "1", books.now()).await;
    books.pass_time(SignedDuration::from_mins(62));
    let summary = books.engine().run_pass().await.unwrap();
    assert_eq!((summary.accepted, summary.parked), (8, 1), "{summary:?}");
    let parked: Vec<RecordRow> =
        books.records().await.into_iter().filter(|it| it.state == "parked").collect();
    assert_eq!(parked[0].reason.as_deref(), Some("invalid_usage_dimension"));
    books.assert_adds_up().await;
}

/// Days of usage and late usage, lost answers, and restarts: AWS's ledger equals what was reported.
async fn bill_some_days(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut books = Books::open(seed, 4).await;
    books.aws.faults.lock().unwrap().dice = Some(rng.fork());
    let customers = books.customers().await;
    // AWS's sources disagree on how it answers the very same record: either must do.
    if seed.is_multiple_of(2) {
        let mut market = books.aws.market.lock().unwrap();
        let retry = IdenticalRetry::Duplicate;
        let options = Options { identical_retry: retry, ..market.options().clone() };
        market.set_options(options);
    }
    let mut reported = Quantity::ZERO;
    for _ in 0..60 {
        for _ in 0..rng.usize(0..6) {
            let customer = rng.choice(&customers).unwrap().clone();
            let dimension = if rng.bool() { "gb" } else { "requests" };
            let late = SignedDuration::from_mins(rng.i64(0..600));
            let quantity = rng.u32(0..50);
            reported = reported.checked_add(Quantity::from_units(quantity)).unwrap();
            let at = books.now() - late;
            books.report(&customer, dimension, &quantity.to_string(), at).await;
        }
        books.pass_time(SignedDuration::from_mins(rng.i64(1..50)));
        books.engine().run_pass().await.unwrap();
        books.assert_adds_up().await;
        if rng.u32(0..5) == 0 {
            // A restart: everything that is not on disk is gone.
            books.store.close();
            books.store = Store::open(&books.folder.path().join("marketd.db")).unwrap();
        }
    }
    books.aws.faults.lock().unwrap().dice = None;
    for _ in 0..4 {
        books.pass_time(SignedDuration::from_mins(40));
        books.engine().run_pass().await.unwrap();
    }
    let key = |id: Option<&str>, dimension: &str, hour: String, quantity: String| {
        format!("{} {dimension} {hour} {quantity}", id.unwrap_or("-"))
    };
    let mut ours: Vec<String> = books
        .records()
        .await
        .iter()
        .filter(|it| it.quantity > Quantity::ZERO)
        .map(|it| {
            assert_eq!(it.state, "accepted", "seed {seed}: {it:?}");
            let id = it.metering_record_id.as_deref();
            key(id, it.dimension.as_str(), it.hour.to_string(), it.quantity.to_string())
        })
        .collect();
    let mut theirs: Vec<String> = {
        let market = books.aws.market.lock().unwrap();
        let honoured = market.ledger().honoured().iter();
        honoured
            .map(|it| {
                let quantity = it.quantity.normalize().to_string();
                key(Some(&it.metering_record_id), &it.dimension, it.hour.to_string(), quantity)
            })
            .collect()
    };
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs, "seed {seed}");
    let balance =
        books.store.metering_balance().await.unwrap().into_values().next().unwrap_or_default();
    assert_eq!((balance.reported, balance.accepted), (reported, reported), "seed {seed}");
}

#[tokio::test]
async fn what_is_reported_is_billed_once_whatever_answers_are_lost() {
    for seed in 0..12 {
        bill_some_days(seed).await;
    }
}

#[tokio::test]
async fn news_during_a_look_is_not_settled_by_it() {
    let books = Books::open(4, 1).await;
    let now = books.now();
    let key = marketd::domain::BuyerKey {
        product_code: ProductCode::new(&books.product.product_code),
        buyer: BuyerRef::Account(AccountId::new(account(0))),
    };
    books.store.mark_buyer_dirty(key.clone(), now).await.unwrap();
    let begun = books.store.take_due_buyers(now, 10).await.unwrap().remove(0);
    // While AWS is asked, something else happens.
    books.store.mark_buyer_dirty(key.clone(), now).await.unwrap();
    let entry = LookEntry { buyer: key.buyer.clone(), settles: Some(begun.marks), answer: None };
    let look =
        Look { product_code: key.product_code.clone(), observed_at: now, entries: vec![entry] };
    let patience =
        Patience { second_look: SignedDuration::ZERO, expiry_grace: SignedDuration::ZERO };
    books.store.apply_look(look, patience, now).await.unwrap();
    let due = books.store.take_due_buyers(now, 10).await.unwrap();
    assert_eq!(due.len(), 1, "the second piece of news still wants its look");
}
