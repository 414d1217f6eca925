//! Billing usage: which record bears it, how much of it is billed, and the sums that follow.
//!
//! Everything is added up in memory and written once a report: a record is updated once however many events it
//! takes. The counters are read and written inside the writer's transaction, so two reports at once cannot both
//! find room in what a plan includes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::convert::millis;
use super::records::{RecordKey, add_tagged_in, delete_record_in, open_record_in};
use super::routes::{Bears, Route};
use super::usage::quantity;
use super::{During, StoreError};
use crate::domain::allowance::{Billing, excess};
use crate::domain::window::Window;
use crate::domain::{ClockHour, CustomerId, FeatureId, Holder, ProductId, Quantity};

/// One piece of usage.
pub(super) struct Use<'a> {
    pub(super) customer: &'a CustomerId,
    pub(super) feature: Option<&'a FeatureId>,
    pub(super) quantity: Quantity,
    /// When the customer used it.
    pub(super) at: Timestamp,
    /// The hour that it belongs to.
    pub(super) hour: ClockHour,
    /// Its tags as JSON, if it has any.
    pub(super) tags: Option<&'a str>,
}

/// Where a piece of usage would go. Nothing is counted until [`Biller::count`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Billed {
    /// The record that bears it; none where nothing of it is billed.
    pub(super) record: Option<i64>,
    /// How much of it is billed.
    pub(super) quantity: Quantity,
    /// Why it is billed to another hour than its own.
    pub(super) moved: Option<&'static str>,
}

/// Where usage counts: customer, feature and holder.
type Counter = (CustomerId, FeatureId, String);

/// Where the usage of one route goes within a report: found once, so that an event costs no look for it.
#[derive(Default)]
pub(super) struct Lane {
    record: Option<(i64, ClockHour)>,
    counter: Option<Rc<Counter>>,
}

impl Lane {
    fn counter(&mut self, it: &Use<'_>, feature: &FeatureId, bears: Option<&Bears>) -> Rc<Counter> {
        let made =
            || Rc::new(counter(it.customer, feature, bears.and_then(|it| it.holder.as_ref())));
        Rc::clone(self.counter.get_or_insert_with(made))
    }
}

pub(super) struct Biller<'a> {
    connection: &'a Connection,
    records: HashMap<RecordKey, (i64, ClockHour)>,
    /// Records that were made here and that nothing was added to yet.
    empty: HashSet<i64>,
    /// What is added, record by record.
    added: HashMap<i64, i64>,
    tagged: HashMap<(i64, String), i64>,
    /// What is counted, hour by hour.
    used: HashMap<(Rc<Counter>, i64), i64>,
    /// What is used so far in the windows that bill overage.
    windows: HashMap<(Rc<Counter>, i64), i64>,
    /// What is reported and what is included, product by product.
    totals: HashMap<ProductId, (i64, i64)>,
    /// What was reported and included before.
    before: HashMap<ProductId, i64>,
}

/// The most millionths that a product's sums may come to: nine million million units. Every other sum is a part of one
/// of these.
const MOST: i64 = 9_000_000_000_000_000_000;

impl<'a> Biller<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            records: HashMap::new(),
            empty: HashSet::new(),
            added: HashMap::new(),
            tagged: HashMap::new(),
            used: HashMap::new(),
            windows: HashMap::new(),
            totals: HashMap::new(),
            before: HashMap::new(),
        }
    }

    /// Finds what bears a piece of usage. A lane is one route's and one hour's.
    pub(super) fn place(
        &mut self,
        it: &Use<'_>,
        route: &Route,
        lane: &mut Lane,
    ) -> Result<Billed, StoreError> {
        let nothing = Billed { record: None, quantity: Quantity::ZERO, moved: None };
        let Some(bears) = &route.bears else { return Ok(nothing) };
        let quantity = match (&route.billing, it.feature) {
            (Billing::All, _) | (_, None) => it.quantity,
            (Billing::None, _) => Quantity::ZERO,
            (Billing::Overage { included, window }, Some(feature)) => {
                let counter = lane.counter(it, feature, Some(bears));
                let used = self.used_in_window(counter, *window, it.at)?;
                excess(quantity(used), it.quantity, *included)
            }
        };
        // Usage of nothing is billed as it came; what a plan includes leaves no record.
        if quantity == Quantity::ZERO && it.quantity > Quantity::ZERO {
            return Ok(nothing);
        }
        let first = route.first_hour.filter(|first| *first > it.hour);
        let wanted = first.unwrap_or(it.hour);
        let (record, hour) = match lane.record {
            Some(found) => found,
            None => *lane.record.insert(self.record(bears, it.customer, wanted)?),
        };
        let moved = match first {
            Some(_) => Some("before_start"),
            None => (hour != wanted).then_some("hour_frozen"),
        };
        Ok(Billed { record: Some(record), quantity, moved })
    }

    /// Whether the books can hold so much more of a product.
    pub(super) fn can_hold(
        &mut self,
        product: &ProductId,
        more: Quantity,
    ) -> Result<bool, StoreError> {
        let before = if let Some(before) = self.before.get(product) {
            *before
        } else {
            let before: Option<i64> = self
                .connection
                .prepare_cached(
                    "SELECT reported + included FROM usage_totals WHERE product_id = ?1",
                )
                .and_then(|mut select| {
                    select.query_row([product.as_str()], |row| row.get(0)).optional()
                })
                .during("read what was reported of a product")?;
            *self.before.entry(product.clone()).or_insert(before.unwrap_or(0))
        };
        let here = self.totals.get(product).map_or(0, |(reported, included)| reported + included);
        Ok(MOST - before - here >= more.millionths())
    }

    /// Counts a piece of usage where it was placed.
    pub(super) fn count(&mut self, it: &Use<'_>, route: &Route, billed: Billed, lane: &mut Lane) {
        let bears = route.bears.as_ref();
        if let Some(record) = billed.record {
            self.empty.remove(&record);
            *self.added.entry(record).or_default() += billed.quantity.millionths();
            if let Some(tags) = it.tags {
                let part = self.tagged.entry((record, tags.to_owned())).or_default();
                *part += billed.quantity.millionths();
            }
        }
        if let Some(bears) = bears {
            let included = it.quantity.saturating_sub(billed.quantity).millionths();
            self.total(&bears.product_id, billed.quantity.millionths(), included);
        }
        if let Some(feature) = it.feature {
            let counter = lane.counter(it, feature, bears);
            if let Billing::Overage { window, .. } = route.billing {
                let window = (Rc::clone(&counter), window_key(window.around(it.at).start));
                if let Some(used) = self.windows.get_mut(&window) {
                    *used = used.saturating_add(it.quantity.millionths());
                }
            }
            self.use_of(counter, &route.windows, it.at, it.quantity.millionths());
        }
    }

    /// Takes back what a piece of usage counted while nothing bore it.
    pub(super) fn uncount_waiting(&mut self, it: &Use<'_>, product: &ProductId, billed: Quantity) {
        self.total(product, -billed.millionths(), 0);
        if let Some(feature) = it.feature {
            let counter = Rc::new(counter(it.customer, feature, None));
            self.use_of(counter, &[], it.at, -it.quantity.millionths());
        }
    }

    fn total(&mut self, product: &ProductId, reported: i64, included: i64) {
        // Most events of a report are of one product: no new key for each.
        if let Some(sums) = self.totals.get_mut(product) {
            sums.0 += reported;
            sums.1 += included;
        } else {
            self.totals.insert(product.clone(), (reported, included));
        }
    }

    /// Adds to the hour that holds a moment, or to what is left of it where a window begins within it.
    fn use_of(&mut self, counter: Rc<Counter>, windows: &[Window], at: Timestamp, quantity: i64) {
        let hour = ClockHour::of(at).start();
        let from = windows.iter().map(|window| window.around(at).start).fold(hour, Timestamp::max);
        let used = self.used.entry((counter, millis(from))).or_default();
        *used = used.saturating_add(quantity);
    }

    /// What was used in the window around a moment, this report included.
    fn used_in_window(
        &mut self,
        counter: Rc<Counter>,
        window: Window,
        at: Timestamp,
    ) -> Result<i64, StoreError> {
        let around = window.around(at);
        let key = (counter, window_key(around.start));
        if let Some(used) = self.windows.get(&key) {
            return Ok(*used);
        }
        let (customer, feature, holder) = &*key.0;
        let end = around.end.map_or(i64::MAX, millis);
        let held: i64 = self
            .connection
            .prepare_cached(
                "SELECT ifnull(sum(quantity), 0) FROM usage_hours
                 WHERE customer_id = ?1 AND feature_id = ?2 AND holder = ?3 AND from_ms >= ?4 AND from_ms < ?5",
            )
            .and_then(|mut select| {
                let ids = (customer.as_str(), feature.as_str(), holder);
                select.query_row((ids.0, ids.1, ids.2, key.1, end), |row| row.get(0))
            })
            .during("sum a window's usage")?;
        // What this report counted before its window was asked for.
        let used = self
            .used
            .iter()
            .filter(|((counter, from), _)| *counter == key.0 && (key.1..end).contains(from))
            .fold(held, |sum, (_, quantity)| sum.saturating_add(*quantity));
        self.windows.insert(key, used);
        Ok(used)
    }

    fn record(
        &mut self,
        bears: &Bears,
        customer: &CustomerId,
        hour: ClockHour,
    ) -> Result<(i64, ClockHour), StoreError> {
        let key = RecordKey { bears: bears.clone(), customer: customer.clone(), hour };
        if let Some(known) = self.records.get(&key) {
            return Ok(*known);
        }
        let found = open_record_in(self.connection, &key)?;
        if found.new {
            self.empty.insert(found.id);
        }
        self.records.insert(key, (found.id, found.hour));
        Ok((found.id, found.hour))
    }

    /// Writes the sums.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let connection = self.connection;
        for record in self.empty {
            delete_record_in(connection, record)?;
        }
        let mut add = connection
            .prepare_cached(
                "UPDATE OR FAIL metering_records SET quantity = quantity + ?2 WHERE id = ?1",
            )
            .during("add to metering records")?;
        for (record, quantity) in self.added.into_iter().filter(|(_, quantity)| *quantity != 0) {
            add.execute((record, quantity)).during("add to metering records")?;
        }
        for ((record, tags), quantity) in self.tagged {
            add_tagged_in(connection, record, &tags, quantity)?;
        }
        let mut count = connection
            .prepare_cached(
                "INSERT INTO usage_hours (customer_id, feature_id, holder, from_ms, quantity)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
            )
            .during("count usage")?;
        for ((counter, from), quantity) in self.used {
            let (customer, feature, holder) = &*counter;
            count
                .execute((customer.as_str(), feature.as_str(), holder, from, quantity))
                .during("count usage")?;
        }
        let mut total = connection
            .prepare_cached(
                "INSERT INTO usage_totals (product_id, reported, included) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET reported = reported + excluded.reported,
                     included = included + excluded.included",
            )
            .during("total usage")?;
        for (product, (reported, included)) in self.totals {
            total.execute((product.as_str(), reported, included)).during("total usage")?;
        }
        Ok(())
    }
}

fn counter(customer: &CustomerId, feature: &FeatureId, holder: Option<&Holder>) -> Counter {
    let holder = holder.map(Holder::to_string).unwrap_or_default();
    (customer.clone(), feature.clone(), holder)
}

/// A window's start as usage is counted by: the lifetime's is before every time that there is.
fn window_key(start: Timestamp) -> i64 {
    if start == Timestamp::MIN { i64::MIN } else { millis(start) }
}
