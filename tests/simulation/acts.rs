//! What buyers, AWS's mail, the application and the seller's people do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use marketd::domain::ledger::AgeLimits;
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{CustomerId, DimensionKey, ProductId, Quantity};
use marketd::sandbox::market::{Action, Market, Order};
use marketd::store::{
    CustomerFilter, Order as ListOrder, Page, RecordFilter, Resolution, ResolveError,
};

use super::support::seller::{Message, look_at_everybody_due};
use super::{BUYERS, Simulation, Step, account, consumed};

impl Simulation {
    pub(super) fn buyer_acts(&mut self) {
        // Nobody does two things at once, and AWS's times tell which came first.
        self.pass_time(SignedDuration::from_secs(1));
        let account = account(self.rng.usize(0..BUYERS));
        let product = self.rng.choice(&self.products).unwrap().clone();
        let order = Order::of(&product.product_code);
        let action = match (product.pricing.has_contract(), self.rng.u32(0..10)) {
            (true, 0..4) => Action::Purchase(order.with("pro", self.rng.u64(1..4))),
            (false, 0..5) => Action::Subscribe(order),
            (true, 4) => Action::Upgrade(Order {
                replace: self.rng.bool(),
                new_license: self.rng.bool(),
                ..order.with("pro", self.rng.u64(4..8))
            }),
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
    pub(super) async fn hear(&mut self) -> Step {
        self.rng.shuffle(&mut self.mail);
        let count = self.rng.usize(0..=self.mail.len());
        let batch: Vec<Message> = self.mail.drain(..count).collect();
        if let Some(again) = batch.first().filter(|_| self.rng.u32(0..4) == 0) {
            self.mail.push(again.clone());
        }
        let names = batch.iter().any(|it| it.body.contains("TopicArn"));
        if names && !self.named {
            self.note_who_has_no_name().await;
        }
        let incoming = batch.iter().map(Message::incoming).collect();
        let heard = self.store.record_notifications(incoming, self.clock.now()).await;
        if heard.is_err() {
            // Not acknowledged, so it comes again.
            self.mail.extend(batch);
        }
        heard?;
        self.named |= names;
        self.look().await
    }

    pub(super) async fn look(&mut self) -> Step {
        let mut market = {
            let mut held = self.aws.market.lock().unwrap();
            std::mem::replace(&mut *held, Market::new(0))
        };
        market.tick(self.aws.clock.now());
        let looked = look_at_everybody_due(&self.store, &mut market, self.clock.now()).await;
        *self.aws.market.lock().unwrap() = market;
        looked
    }

    pub(super) async fn customers(&self) -> Vec<CustomerId> {
        let page = Page { after: None, limit: 500 };
        let everybody = CustomerFilter::default();
        self.store.customers(everybody, page).await.unwrap().into_iter().map(|it| it.id).collect()
    }

    /// A report of new events and some that were reported before.
    pub(super) async fn application_reports(&mut self) -> Step {
        let customers = self.customers().await;
        let mut events: Vec<UsageEvent> = Vec::new();
        for _ in 0..self.rng.usize(1..6) {
            match self.rng.choice(&self.reported).filter(|_| self.rng.u32(0..6) == 0) {
                Some(again) => events.push(again.clone()),
                None => events.extend(self.new_event(&customers)),
            }
        }
        self.reported.extend(events.iter().cloned());
        let sent =
            self.store.append_usage(events.clone(), AgeLimits::default(), self.clock.now()).await;
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

    pub(super) async fn keep(&mut self, events: &[UsageEvent]) -> Step {
        let receipt = self
            .store
            .append_usage(events.to_vec(), AgeLimits::default(), self.clock.now())
            .await?;
        self.promise(events, &receipt.rejected.iter().map(|it| it.id.clone()).collect());
        Ok(())
    }

    pub(super) fn promise(&mut self, events: &[UsageEvent], rejected: &BTreeSet<String>) {
        let kept = events.iter().filter(|event| !rejected.contains(&event.id));
        self.promised.extend(kept.map(|event| (event.id.clone(), event.quantity)));
    }

    pub(super) fn new_event(&mut self, customers: &[CustomerId]) -> Option<UsageEvent> {
        let customer_id = self.rng.choice(customers)?.clone();
        let product = self.rng.choice(&self.products).unwrap();
        let subject = if self.rng.bool() {
            UsageSubject::Feature(consumed(product))
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

    pub(super) async fn person_decides(&mut self) -> Step {
        let filter = RecordFilter { state: Some("parked".into()), ..RecordFilter::default() };
        let page = Page { after: None, limit: 500 };
        let parked = self.store.metering_records(filter, ListOrder::Oldest, page).await?.rows;
        let Some(record) = self.rng.choice(&parked) else { return Ok(()) };
        let resolution = match self.rng.u32(0..3) {
            0 => Resolution::Retry,
            // Whoever decides has seen what AWS billed for the hour.
            1 if !self.is_unknown(record) => Resolution::CarryForward,
            _ => Resolution::WriteOff,
        };
        let decided = self
            .store
            .resolve_record(record.id.clone(), resolution, "a test".into(), self.clock.now())
            .await;
        match decided {
            Err(ResolveError::Store(error)) => Err(error),
            // What would bill twice is refused.
            _ => Ok(()),
        }
    }

    /// Our clock is set, a little or a lot; AWS stops or begins to know a dimension, goes away or comes back.
    pub(super) fn clocks_and_dimensions_change(&mut self) {
        if self.rng.u32(0..3) == 0 {
            let away = self.rng.u32(0..3) == 0;
            self.aws.faults.lock().unwrap().away = away;
            let poison = self.rng.bool().then_some("requests");
            self.aws.faults.lock().unwrap().poison = poison;
            return;
        }
        let skew = match self.rng.u32(0..4) {
            0 => SignedDuration::from_mins(self.rng.i64(-90..90)),
            _ => SignedDuration::ZERO,
        };
        self.was_set |= skew != SignedDuration::ZERO;
        self.clock.set(self.aws.clock.now() + skew);
    }
}
