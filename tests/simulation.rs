//! Days of a seller's life in virtual time: buyers come and go, usage is reported late, twice, in fractions and
//! under tags, AWS throttles, cuts, leaves undone and refuses, clocks are set, people decide on what is parked,
//! and the process dies between any two steps. After each step the ledger adds up, and in the end AWS has billed
//! what the ledger says, once.
//!
//! A seed decides everything, so a failure can be played again:
//! `MARKETD_SEED=1234 cargo test --test simulation`. `MARKETD_SEEDS=20000` plays more of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use marketd::clock::Clock;
use marketd::domain::plan::{Bill, EntitlementTerms, Feature, FeatureKind, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, CustomerId, DimensionKey, FeatureId, PlanId, ProductId, Quantity,
};
use marketd::health::Health;
use marketd::metering::MeteringEngine;
use marketd::sandbox::market::{
    Action, HonouredRecord, IdenticalRetry, Market, Options, Order, Product,
};
use marketd::store::{
    AwsIds, Balance, Closing, CustomerFilter, Page, ProvisionCustomer, RecordFilter, RecordRow,
    Resolution, Store, StoreError, UsageFilter,
};
use support::aws::Aws;
use support::seller::{Message, look_at_everybody_due};

const START: &str = "2026-11-28T09:05:00Z";
const WINDOW: SignedDuration = SignedDuration::from_hours(24);
const BUYERS: usize = 5;
/// What each month of a contract includes of the consumed feature.
const INCLUDED: u32 = 60;
/// About a minute of them; the gate plays thousands.
const SEEDS: u64 = 300;

/// The step that failed for want of a process, or the store's own fault.
type Step = Result<(), StoreError>;

struct Simulation {
    rng: Rng,
    folder: tempfile::TempDir,
    store: Store,
    aws: Aws,
    /// Our clock, which may differ from AWS's.
    clock: Clock,
    products: Vec<Product>,
    closing: Closing,
    /// Messages under way to us.
    mail: Vec<Message>,
    messages: usize,
    /// Every event that was ever promised to be kept, with its quantity if it is to be billed at all.
    promised: BTreeMap<String, Quantity>,
    reported: Vec<UsageEvent>,
    claims: usize,
}

fn memory_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn account(number: usize) -> String {
    format!("{:012}", 700_000_000_000 + number)
}

impl Simulation {
    async fn begin(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let start: Timestamp = START.parse().unwrap();
        let mut market = Market::with_demo_catalog(seed);
        // AWS's sources disagree on how it answers the very same record: either must do.
        if rng.bool() {
            let retry = IdenticalRetry::Duplicate;
            market.set_options(Options { identical_retry: retry, ..market.options().clone() });
        }
        let products: Vec<Product> =
            market.products().filter(|it| it.pricing.has_usage()).cloned().collect();
        let folder = tempfile::tempdir_in(memory_folder()).unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        set_up(&store, &products, start).await;
        let closing = Closing {
            grace: SignedDuration::from_mins(5),
            window: WINDOW,
            region: "us-east-1".into(),
            zero_usage: rng.u32(0..4) == 0,
        };
        let aws = Aws::new(market, Clock::manual(start));
        aws.faults.lock().unwrap().dice = Some(rng.fork());
        Self {
            rng,
            folder,
            store,
            aws,
            clock: Clock::manual(start),
            products,
            closing,
            mail: Vec::new(),
            messages: 0,
            promised: BTreeMap::new(),
            reported: Vec::new(),
            claims: 0,
        }
    }

    /// Everything that is not on disk is gone.
    fn restart(&mut self) {
        self.store.close();
        self.store = Store::open(&self.folder.path().join("marketd.db")).unwrap();
    }

    fn pass_time(&mut self, by: SignedDuration) {
        self.aws.clock.set(self.aws.clock.now() + by);
        self.clock.set(self.clock.now() + by);
        self.collect_mail();
    }

    fn collect_mail(&mut self) {
        let now = self.aws.clock.now();
        let sent = self.aws.market.lock().unwrap().take_outgoing(now);
        for outgoing in sent {
            self.messages += 1;
            self.mail.push(Message::of(&outgoing, self.messages));
        }
    }

    async fn step(&mut self) -> Step {
        match self.rng.u32(0..16) {
            0 | 1 => {
                self.buyer_acts();
                Ok(())
            }
            2..=6 => self.application_reports().await,
            7 | 8 => self.hear().await,
            9 => self.person_decides().await,
            10 => self.seller_claims().await,
            11 => {
                self.clocks_and_dimensions_change();
                Ok(())
            }
            _ => {
                let minutes = self.rng.i64(1..50);
                self.pass_time(SignedDuration::from_mins(minutes));
                self.engine().run_pass().await.map(drop)
            }
        }
    }

    fn engine(&self) -> MeteringEngine<Aws> {
        MeteringEngine {
            store: self.store.clone(),
            api: self.aws.clone(),
            clock: self.clock.clone(),
            health: Health::default(),
            closing: self.closing.clone(),
            interval: Duration::from_secs(1),
            concurrency: 1,
        }
    }

    fn buyer_acts(&mut self) {
        let account = account(self.rng.usize(0..BUYERS));
        let product = self.rng.choice(&self.products).unwrap().clone();
        let order = Order::of(&product.product_code);
        let action = match (product.pricing.has_contract(), self.rng.u32(0..10)) {
            (true, 0..4) => Action::Purchase(order.with("pro", self.rng.u64(1..4))),
            (false, 0..5) => Action::Subscribe(order),
            (true, 4) => Action::Upgrade(order.with("pro", self.rng.u64(4..8))),
            (_, 5..7) => Action::Renew(Order {
                new_license: self.rng.bool(),
                previous_agreement_id: Some(self.rng.bool()),
                ..order
            }),
            (_, 7) => Action::Suspend(Order { suspended: Some(self.rng.bool()), ..order }),
            _ => Action::Cancel(Order { immediate: self.rng.bool(), ..order }),
        };
        // What makes no sense at this moment is refused by AWS, and nothing happens.
        self.aws.market.lock().unwrap().act(self.aws.clock.now(), &account, action).ok();
        self.collect_mail();
    }

    /// Some of the mail comes, in any order, here and there twice.
    async fn hear(&mut self) -> Step {
        self.rng.shuffle(&mut self.mail);
        let count = self.rng.usize(0..=self.mail.len());
        let batch: Vec<Message> = self.mail.drain(..count).collect();
        if let Some(again) = batch.first().filter(|_| self.rng.u32(0..4) == 0) {
            self.mail.push(again.clone());
        }
        let incoming = batch.iter().map(Message::incoming).collect();
        let heard = self.store.record_notifications(incoming, self.clock.now()).await;
        if heard.is_err() {
            // Not acknowledged, so it comes again.
            self.mail.extend(batch);
        }
        heard?;
        self.look().await
    }

    async fn look(&mut self) -> Step {
        let mut market = {
            let mut held = self.aws.market.lock().unwrap();
            std::mem::replace(&mut *held, Market::new(0))
        };
        market.tick(self.aws.clock.now());
        let looked = look_at_everybody_due(&self.store, &mut market, self.clock.now()).await;
        *self.aws.market.lock().unwrap() = market;
        looked
    }

    async fn customers(&self) -> Vec<CustomerId> {
        let page = Page { after: None, limit: 500 };
        let everybody = CustomerFilter::default();
        self.store.customers(everybody, page).await.unwrap().into_iter().map(|it| it.id).collect()
    }

    /// A report of new events and some that were reported before.
    async fn application_reports(&mut self) -> Step {
        let customers = self.customers().await;
        let mut events: Vec<UsageEvent> = Vec::new();
        for _ in 0..self.rng.usize(1..6) {
            match self.rng.choice(&self.reported).filter(|_| self.rng.u32(0..6) == 0) {
                Some(again) => events.push(again.clone()),
                None => events.extend(self.new_event(&customers)),
            }
        }
        self.reported.extend(events.iter().cloned());
        let sent = self.store.append_usage(events.clone(), WINDOW, self.clock.now()).await;
        let receipt = match sent {
            Ok(receipt) => receipt,
            Err(error) => {
                // No answer: the application sends the very same again, to whoever is there by then.
                self.restart();
                self.keep(&events).await?;
                return Err(error);
            }
        };
        self.promise(&events, &receipt.rejected.iter().map(|it| it.id.clone()).collect());
        Ok(())
    }

    async fn keep(&mut self, events: &[UsageEvent]) -> Step {
        let receipt = self.store.append_usage(events.to_vec(), WINDOW, self.clock.now()).await?;
        self.promise(events, &receipt.rejected.iter().map(|it| it.id.clone()).collect());
        Ok(())
    }

    fn promise(&mut self, events: &[UsageEvent], rejected: &BTreeSet<String>) {
        let kept = events.iter().filter(|event| !rejected.contains(&event.id));
        self.promised.extend(kept.map(|event| (event.id.clone(), event.quantity)));
    }

    fn new_event(&mut self, customers: &[CustomerId]) -> Option<UsageEvent> {
        let customer_id = self.rng.choice(customers)?.clone();
        let product = self.rng.choice(&self.products).unwrap();
        let subject = if product.pricing.has_contract() && self.rng.bool() {
            UsageSubject::Feature(FeatureId::new("consumed"))
        } else {
            let metered: Vec<&str> = product
                .dimensions
                .iter()
                .filter(|it| product.meters(&it.key))
                .map(|it| it.key.as_str())
                .collect();
            let dimension = *self.rng.choice(&metered).unwrap();
            UsageSubject::Dimension {
                product_id: ProductId::new(&product.entity_id),
                dimension: DimensionKey::new(dimension),
            }
        };
        let millionths = match self.rng.u32(0..10) {
            0 => 0,
            1..4 => self.rng.i64(1..3_000_000),
            4 => 2_147_483_647_000_000,
            _ => self.rng.i64(0..40) * 1_000_000,
        };
        let tags = match self.rng.u32(0..3) {
            0 => BTreeMap::from([("team".to_owned(), format!("t{}", self.rng.u32(0..3)))]),
            _ => BTreeMap::new(),
        };
        let late = match self.rng.u32(0..12) {
            0 => SignedDuration::from_hours(self.rng.i64(20..40)),
            1..5 => SignedDuration::from_mins(self.rng.i64(0..600)),
            _ => SignedDuration::from_mins(self.rng.i64(-4..2)),
        };
        Some(UsageEvent {
            id: format!("e-{}-{}", self.reported.len(), self.rng.u32(..)),
            customer_id,
            subject,
            quantity: Quantity::from_millionths(millionths).unwrap(),
            timestamp: Some(self.clock.now() - late),
            license_arn: None,
            tags,
        })
    }

    async fn person_decides(&mut self) -> Step {
        let filter = RecordFilter { state: Some("parked".into()), ..RecordFilter::default() };
        let page = Page { after: None, limit: 500 };
        let parked = self.store.metering_records(filter, page).await?;
        let Some(record) = self.rng.choice(&parked) else { return Ok(()) };
        let resolution = match self.rng.u32(0..3) {
            0 => Resolution::Retry,
            1 => Resolution::CarryForward,
            _ => Resolution::WriteOff,
        };
        let decided = self
            .store
            .resolve_record(record.id.clone(), resolution, "a test".into(), self.clock.now())
            .await;
        match decided {
            Err(marketd::store::ResolveError::Store(error)) => Err(error),
            // What would bill twice is refused.
            _ => Ok(()),
        }
    }

    /// The seller provisions a buyer whom AWS has told of already, or will.
    async fn seller_claims(&mut self) -> Step {
        let number = self.rng.usize(0..BUYERS);
        self.claims += 1;
        let identifier = {
            let market = self.aws.market.lock().unwrap();
            market.buyer(&account(number)).map(|it| it.customer_identifier.clone())
        };
        let provision = ProvisionCustomer {
            id: CustomerId::new(format!("seller-{number}")),
            name: None,
            email: None,
            metadata: None,
            aws: AwsIds {
                account_id: Some(AccountId::new(account(number))),
                customer_identifier: identifier.map(marketd::domain::CustomerIdentifier::new),
                license_arn: None,
            },
        };
        match self.store.provision_customer(provision, self.clock.now()).await {
            Err(marketd::store::ProvisionError::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Our clock is set, a little or a lot; AWS stops or begins to know a dimension.
    fn clocks_and_dimensions_change(&mut self) {
        if self.rng.u32(0..3) == 0 {
            let poison = self.rng.bool().then_some("requests");
            self.aws.faults.lock().unwrap().poison = poison;
            return;
        }
        let skew = match self.rng.u32(0..4) {
            0 => SignedDuration::from_mins(self.rng.i64(-90..90)),
            _ => SignedDuration::ZERO,
        };
        self.clock.set(self.aws.clock.now() + skew);
    }

    async fn records(&self) -> Vec<RecordRow> {
        let page = Page { after: None, limit: 100_000 };
        self.store.metering_records(RecordFilter::default(), page).await.unwrap()
    }

    /// Every unit that was promised is somewhere, in sum.
    async fn assert_adds_up(&self) {
        let balances = self.store.metering_balance().await.unwrap();
        for (product, balance) in &balances {
            assert!(balance.adds_up(), "{product}: {balance:?}");
        }
        let total = Balance::total(balances.values());
        let kept = [total.reported, total.included].into_iter().sum::<Quantity>();
        let promised = self.promised.values().copied().sum::<Quantity>();
        assert_eq!(kept, promised, "kept against promised: {total:?}");
    }

    /// Each record bears exactly what its events bill, and what came from others.
    async fn assert_records_hold_their_events(&self, records: &[RecordRow]) {
        let page = Page { after: None, limit: 100_000 };
        let events = self.store.usage_events(UsageFilter::default(), page).await.unwrap();
        assert_eq!(events.len(), self.promised.len(), "every event is kept once");
        let mut billed: BTreeMap<String, i64> = BTreeMap::new();
        for event in &events {
            match &event.metering_record {
                Some(record) => {
                    *billed.entry(record.id.clone()).or_default() += event.billed.millionths();
                }
                None => assert_eq!(event.billed, Quantity::ZERO, "{event:?}"),
            }
        }
        for record in records {
            let bears = billed.get(&record.id).copied().unwrap_or_default();
            assert_eq!(
                bears + record.carried_in.millionths(),
                record.quantity.millionths() + record.remainder.millionths(),
                "{record:?}"
            );
            let split: i64 = record.allocations.iter().map(|it| it.quantity.millionths()).sum();
            assert!(split == 0 || split == record.quantity.millionths(), "{record:?}");
        }
    }

    /// AWS has billed each accepted record once and to the unit, and nothing else, save what it may have honoured
    /// without our hearing of it.
    fn assert_billed_once(&self, records: &[RecordRow], unsure: &BTreeSet<String>) {
        let market = self.aws.market.lock().unwrap();
        let mut honoured: BTreeMap<(String, String, String), &HonouredRecord> = BTreeMap::new();
        for it in market.ledger().honoured() {
            assert!(!it.billed_twice, "billed in both forms: {it:?}");
            let holder = it.license_arn.clone().unwrap_or_else(|| {
                it.customer_identifier.clone().unwrap_or_else(|| it.account_id.clone())
            });
            let key = (holder, it.dimension.clone(), it.hour.to_string());
            assert!(honoured.insert(key, it).is_none(), "billed twice: {it:?}");
        }
        let by_id: BTreeMap<&str, &HonouredRecord> =
            honoured.values().map(|it| (it.metering_record_id.as_str(), *it)).collect();
        let mut ours = BTreeSet::new();
        for record in records.iter().filter(|it| it.state == "accepted") {
            let Some(id) = record.metering_record_id.as_deref() else {
                assert_eq!(record.quantity, Quantity::ZERO, "{record:?}");
                continue;
            };
            let theirs = by_id.get(id).unwrap_or_else(|| panic!("AWS does not know {record:?}"));
            let same = (record.dimension.as_str(), record.hour.to_string());
            assert_eq!(same, (theirs.dimension.as_str(), theirs.hour.to_string()));
            assert_eq!(record.quantity.to_string(), theirs.quantity.normalize().to_string());
            assert!(ours.insert(id.to_owned()), "two records are one at AWS: {record:?}");
        }
        for it in honoured.values().filter(|it| !ours.contains(&it.metering_record_id)) {
            let told = |record: &&RecordRow| {
                record.dimension.as_str() == it.dimension
                    && record.hour.to_string() == it.hour.to_string()
                    && record.quantity.to_string() == it.quantity.normalize().to_string()
                    && unsure.contains(&record.id)
            };
            assert!(records.iter().any(|record| told(&record)), "nobody sent {it:?}");
        }
    }

    /// Records with an attempt whose answer was lost.
    async fn unsure(&self, records: &[RecordRow]) -> BTreeSet<String> {
        let mut unsure = BTreeSet::new();
        for record in records.iter().filter(|it| it.state != "accepted" && it.attempts > 0) {
            let (_, attempts) =
                self.store.metering_record(record.id.clone()).await.unwrap().unwrap();
            if attempts.iter().any(|it| it.outcome == "unknown") {
                unsure.insert(record.id.clone());
            }
        }
        unsure
    }

    async fn check(&self) {
        self.assert_adds_up().await;
        let records = self.records().await;
        self.assert_records_hold_their_events(&records).await;
        let unsure = self.unsure(&records).await;
        self.assert_billed_once(&records, &unsure);
    }

    /// Everything heals: all mail comes, all calls succeed, and time passes until nothing is on its way.
    async fn heal(&mut self) {
        {
            let mut faults = self.aws.faults.lock().unwrap();
            faults.dice = None;
            faults.poison = None;
            faults.mortal = None;
        }
        self.clock.set(self.aws.clock.now());
        for _ in 0..60 {
            let mail: Vec<Message> = self.mail.drain(..).collect();
            let incoming = mail.iter().map(Message::incoming).collect();
            self.store.record_notifications(incoming, self.clock.now()).await.unwrap();
            self.look().await.unwrap();
            self.engine().run_pass().await.unwrap();
            self.pass_time(SignedDuration::from_mins(40));
        }
    }

    async fn play(mut self) {
        for number in 0..90 {
            let mortal = self.rng.u32(0..6) == 0;
            if mortal {
                // The process dies after so many writes, or around a call to AWS.
                self.aws.faults.lock().unwrap().mortal = Some(self.store.clone());
                self.store.stop_after(self.rng.u32(1..12));
            }
            if let Err(error) = self.step().await {
                assert!(matches!(error, StoreError::Closed), "step {number}: {error}");
            }
            self.aws.faults.lock().unwrap().mortal = None;
            if mortal {
                self.restart();
            }
            self.assert_adds_up().await;
        }
        self.check().await;
        self.heal().await;
        self.check().await;
        for record in self.records().await {
            let settled = ["accepted", "parked", "written_off"].contains(&record.state.as_str());
            // Less than a unit waits for more.
            let waits = record.state == "open" && record.quantity < Quantity::from_units(1);
            assert!(settled || waits, "not settled in the end: {record:?}");
        }
    }
}

async fn set_up(store: &Store, products: &[Product], now: Timestamp) {
    let mut dimensions = BTreeMap::new();
    for product in products {
        store.import_product(support::import(product), now).await.unwrap();
        if product.pricing.has_contract() {
            dimensions.insert(ProductId::new(&product.entity_id), DimensionKey::new("api_calls"));
        }
    }
    let feature = Feature {
        id: FeatureId::new("consumed"),
        name: "Consumed".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions,
        when_stale: marketd::domain::plan::WhenStale::Allow,
    };
    store.put_feature(feature, now).await.unwrap();
    let terms = EntitlementTerms {
        limit: Some(Quantity::from_units(INCLUDED)),
        reset: Some(ResetPeriod::Day),
        bill: Bill::Overage,
        ..EntitlementTerms::default()
    };
    store
        .put_entitlement(PlanId::new("pro"), FeatureId::new("consumed"), terms, now)
        .await
        .unwrap();
}

fn play(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Simulation::begin(seed).await.play().await });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn the_bill_adds_up_whatever_happens() {
    if let Some(seed) = number("MARKETD_SEED") {
        return play(seed);
    }
    let seeds = number("MARKETD_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            return None;
                        }
                        if std::panic::catch_unwind(|| play(seed)).is_err() {
                            next.store(seeds, Ordering::Relaxed);
                            return Some(seed);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).min()
    });
    if let Some(seed) = failed {
        panic!(
            "seed {seed} failed; play it again: MARKETD_SEED={seed} cargo test --test simulation"
        );
    }
}
