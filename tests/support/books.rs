//! A seller with one product, its buyers, and a ledger in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::database::open_store;
use jiff::{SignedDuration, Timestamp};
use marketd::clock::Clock;
use marketd::domain::ledger::AgeLimits;
use marketd::domain::usage::{UsageEvent, UsageReceipt, UsageSubject};
use marketd::domain::{CustomerId, DimensionKey, ProductId, Terms};
use marketd::health::Health;
use marketd::metering::{Breaker, MeteringEngine, PassSummary};
use marketd::sandbox::market::{Action, Market, Order, Product};
use marketd::store::{
    Balance, ClosingPolicy, CustomerFilter, Order as ListOrder, Page, RecordFilter, RecordRow,
    Store, SubscriptionFilter,
};

use super::aws::Aws;
use super::seller::{Message, look_at_everybody_due};

pub(crate) const WINDOW: SignedDuration = SignedDuration::from_hours(24);
const START: &str = "2026-11-10T09:05:00Z";

pub(crate) struct Books {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) aws: Aws,
    pub(crate) product: Product,
    pub(crate) closing: ClosingPolicy,
    pub(crate) health: Health,
    pub(crate) breaker: Breaker,
    reports: usize,
    messages: usize,
}

pub(crate) fn account(number: usize) -> String {
    format!("{:012}", 700_000_000_000 + number)
}

impl Books {
    /// Returns the path of the database, also where a schema on a server stands for it.
    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("marketd.db")
    }

    /// Books of a demo product with so many subscribed buyers.
    pub(crate) async fn open(seed: u64, title: &str, buyers: usize) -> Self {
        let clock = Clock::manual(START.parse().unwrap());
        let market = Market::with_demo_catalog(seed);
        let product = market.products().find(|it| it.title == title).unwrap().clone();
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        store.import_product(super::import(&product), clock.now()).await.unwrap();
        let closing = ClosingPolicy {
            grace: SignedDuration::from_mins(5),
            window: WINDOW,
            region: "us-east-1".into(),
            zero_usage: false,
        };
        let aws = Aws::new(market, clock);
        let health = Health::default();
        let mut books = Self {
            folder,
            store,
            aws,
            product,
            closing,
            health,
            breaker: Breaker::default(),
            reports: 0,
            messages: 0,
        };
        for number in 0..buyers {
            let order = Order::of(&books.product.product_code);
            let action = if books.product.pricing.has_contract() {
                Action::Purchase(order.with("pro", 1))
            } else {
                Action::Subscribe(order)
            };
            books.act(&account(number), action);
        }
        books.hear().await;
        books
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.aws.clock.now()
    }

    pub(crate) fn pass(&self, time: SignedDuration) {
        self.aws.clock.set(self.now() + time);
    }

    pub(crate) fn pass_minutes(&self, minutes: i64) {
        self.pass(SignedDuration::from_mins(minutes));
    }

    pub(crate) fn act(&self, account: &str, action: Action) {
        self.aws.market.lock().unwrap().act(self.now(), account, action).unwrap();
    }

    pub(crate) fn order(&self) -> Order {
        Order::of(&self.product.product_code)
    }

    pub(crate) fn product_id(&self) -> ProductId {
        ProductId::new(&self.product.entity_id)
    }

    /// Takes in what AWS has published, and looks at every buyer who is due.
    pub(crate) async fn hear(&mut self) {
        let now = self.now();
        let sent = self.aws.market.lock().unwrap().take_outgoing(now);
        let mut incoming = Vec::new();
        for outgoing in sent {
            self.messages += 1;
            incoming.push(Message::of(&outgoing, self.messages).incoming());
        }
        self.store.record_notifications(incoming, now).await.unwrap();
        let mut market = std::mem::replace(&mut *self.aws.market.lock().unwrap(), Market::new(0));
        market.tick(now);
        look_at_everybody_due(&self.store, &mut market, now).await.unwrap();
        *self.aws.market.lock().unwrap() = market;
    }

    pub(crate) async fn customers(&self) -> Vec<CustomerId> {
        let page = Page { after: None, limit: 10_000 };
        let everybody = CustomerFilter::default();
        self.store.customers(everybody, page).await.unwrap().into_iter().map(|it| it.id).collect()
    }

    /// The customer that a buyer is.
    pub(crate) async fn customer(&self, number: usize) -> CustomerId {
        let identifier = {
            let market = self.aws.market.lock().unwrap();
            market.buyer(&account(number)).unwrap().customer_identifier.clone()
        };
        let page = Page { after: None, limit: 10_000 };
        let found = self.store.subscriptions(SubscriptionFilter::default(), page).await.unwrap();
        let is_it = |terms: &Terms| {
            terms.account_id.as_ref().is_some_and(|id| id.as_str() == account(number))
                || terms.customer_identifier().is_some_and(|id| id.as_str() == identifier)
        };
        found.into_iter().find(|it| is_it(&it.terms)).unwrap().customer_id
    }

    pub(crate) fn dimension(&self, key: &str) -> UsageSubject {
        UsageSubject::Dimension { product_id: self.product_id(), dimension: DimensionKey::new(key) }
    }

    /// An event of now.
    pub(crate) fn event(
        &mut self,
        customer: &CustomerId,
        subject: UsageSubject,
        quantity: &str,
    ) -> UsageEvent {
        self.reports += 1;
        UsageEvent {
            id: format!("e-{}", self.reports),
            customer_id: customer.clone(),
            subject,
            quantity: quantity.parse().unwrap(),
            timestamp: Some(self.now()),
            license_arn: None,
            tags: BTreeMap::new(),
        }
    }

    pub(crate) async fn take(&self, events: Vec<UsageEvent>) -> UsageReceipt {
        self.store.append_usage(events, AgeLimits::default(), self.now()).await.unwrap()
    }

    /// Reports usage of a dimension, which is taken.
    pub(crate) async fn report(
        &mut self,
        customer: &CustomerId,
        dimension: &str,
        quantity: &str,
        at: Timestamp,
    ) {
        let subject = self.dimension(dimension);
        let event = UsageEvent { timestamp: Some(at), ..self.event(customer, subject, quantity) };
        let receipt = self.take(vec![event]).await;
        assert_eq!(receipt.accepted, 1, "{receipt:?}");
    }

    pub(crate) fn engine(&self) -> MeteringEngine<Aws> {
        MeteringEngine {
            store: self.store.clone(),
            api: self.aws.clone(),
            clock: self.aws.clock.clone(),
            health: self.health.clone(),
            closing: self.closing.clone(),
            interval: Duration::from_secs(1),
            concurrency: 1,
            breaker: self.breaker.clone(),
        }
    }

    pub(crate) async fn run_pass(&self) -> PassSummary {
        self.engine().run_pass().await.unwrap()
    }

    pub(crate) async fn records(&self) -> Vec<RecordRow> {
        let page = Page { after: None, limit: 500_000 };
        let (all, order) = (RecordFilter::default(), ListOrder::Oldest);
        let found = self.store.metering_records(all, order, page).await.unwrap();
        assert_eq!(found.looked_until, None, "all of them are in one page");
        let mut records = found.rows;
        // As they were made.
        records.sort_by_key(|it| it.id.parse::<i64>().unwrap());
        records
    }

    /// Each record as `hour dimension quantity state [reason]`.
    pub(crate) async fn shown(&self) -> Vec<String> {
        let line = |it: RecordRow| {
            let hour = it.hour.to_string();
            let reason = it.reason.map_or(String::new(), |reason| format!(" {reason}"));
            let hour = hour.get(11..13).unwrap();
            format!("{hour} {} {} {}{reason}", it.dimension, it.quantity, it.state)
        };
        self.records().await.into_iter().map(line).collect()
    }

    /// Each record that AWS has billed, as `hour dimension quantity form`.
    pub(crate) fn billed(&self) -> Vec<String> {
        let market = self.aws.market.lock().unwrap();
        let mut billed: Vec<String> = market
            .ledger()
            .honoured()
            .iter()
            .map(|it| {
                let hour = it.hour.to_string();
                let form = if it.license_arn.is_some() { "licence" } else { "product" };
                let twice = if it.billed_twice { " TWICE" } else { "" };
                let hour = hour.get(11..13).unwrap();
                format!("{hour} {} {} {form}{twice}", it.dimension, it.quantity.normalize())
            })
            .collect();
        billed.sort();
        billed
    }

    pub(crate) async fn balance(&self) -> Balance {
        let balances = self.store.metering_balance().await.unwrap();
        let total = Balance::total(balances.values());
        assert!(total.adds_up(), "{total:?}");
        total
    }

    /// The types of the outbox's events that begin so.
    pub(crate) async fn told(&self, prefix: &str) -> Vec<String> {
        let events = self.store.events_after(0, 10_000).await.unwrap();
        events.into_iter().map(|it| it.kind).filter(|kind| kind.starts_with(prefix)).collect()
    }
}
