//! Billing usage: which record bears it, how much of it is billed, and the sums that follow.
//!
//! Everything is added up in memory and written once a report: a record is updated once however many events it
//! takes. The counters are read and written inside the writer's transaction, so two reports at once cannot both
//! find room in what a plan includes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use jiff::Timestamp;

use super::attribution::UsageAttribution;
use super::open_records::{add_tagged_in, delete_record_in};
use super::placement::{Counter, PlacementCache, UsageItem};
use super::records::open_record_in;
use super::remembered::RememberedCustomer;
use super::side_records::record_beside_in;
use super::slots::{MeteringTarget, RecordKey};
use super::unknown_hours::unknown_hours_in;
use super::usage_sums::UsageSums;
use crate::domain::allowance::{Billing, excess};
use crate::domain::ledger::ParkReason;
use crate::domain::window::Window;
use crate::domain::{ClockHour, CustomerId, Holder, ProductId, Quantity};
use crate::store::base::columns::{millis, quantity};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// The place that a piece of usage would take. Nothing is counted until [`Rater::count`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RatedUsage {
    /// The record that bears it; none where nothing of it is billed.
    pub(crate) record: Option<i64>,
    /// The part of it that is billed.
    pub(crate) quantity: Quantity,
    /// The reason why it is billed to another hour than its own, if it is.
    pub(crate) moved: Option<&'static str>,
    /// The bearer whose plan includes it, where nothing of it is billed.
    pub(crate) included_under: Option<i64>,
}

/// A quantity that was used, and what of it is billed.
#[derive(Clone, Copy, Debug, Default)]
struct UsageAmount {
    used: i64,
    billed: i64,
}

pub(crate) struct Rater<'a> {
    connection: &'a Connection,
    /// Records that were made here and that nothing was added to yet.
    empty: HashSet<i64>,
    /// The quantities that are added, record by record.
    added: HashMap<i64, i64>,
    tagged: HashMap<(i64, String), i64>,
    /// The usage that is counted, hour by hour.
    used: HashMap<(Rc<Counter>, i64), UsageAmount>,
    /// The usage so far in the windows that bill overage, by the first of the holders that count together.
    windows: HashMap<(Rc<Counter>, i64), i64>,
    /// The reported and the included quantities, product by product.
    totals: HashMap<ProductId, (i64, i64)>,
    /// The usage of all customers, hour by hour.
    sums: UsageSums,
    /// The quantities that were reported and included before.
    before: HashMap<ProductId, i64>,
}

/// The most millionths that a product's sums may come to: nine million million units. Every other sum is a part of one
/// of these.
const PRODUCT_SUM_MOST: i64 = 9_000_000_000_000_000_000;

impl<'a> Rater<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            empty: HashSet::new(),
            added: HashMap::new(),
            tagged: HashMap::new(),
            used: HashMap::new(),
            windows: HashMap::new(),
            totals: HashMap::new(),
            sums: UsageSums::default(),
            before: HashMap::new(),
        }
    }

    /// Notes records that were made for usage which is to be counted: those that get none are taken back.
    pub(super) fn made(&mut self, records: &[i64]) {
        self.empty.extend(records);
    }

    /// Finds the record that bears a piece of usage. A cache is one route's and one hour's.
    pub(crate) fn place(
        &mut self,
        it: &UsageItem<'_>,
        attribution: &UsageAttribution,
        cache: &mut PlacementCache,
    ) -> Result<RatedUsage, StoreError> {
        let nothing = RatedUsage {
            record: None,
            quantity: Quantity::ZERO,
            moved: None,
            included_under: None,
        };
        let Some(target) = &attribution.target else { return Ok(nothing) };
        let quantity = match (&attribution.billing, it.feature) {
            (Billing::All, _) | (_, None) => it.quantity,
            (Billing::None, _) => Quantity::ZERO,
            (Billing::Overage { included, window }, Some(feature)) => {
                let counter = cache.counter(it, feature, Some(target));
                let first = cache.first(&counter, &attribution.counts_with);
                let used = self.used_in_window(first, &attribution.counts_with, *window, it.at)?;
                excess(quantity(used), it.quantity, *included)
            }
        };
        // Usage of nothing is billed as it came; what a plan includes leaves no record.
        if quantity == Quantity::ZERO && it.quantity > Quantity::ZERO {
            let bearer = match cache.bearer {
                Some(known) => known,
                None => *cache.bearer.insert(bearer_in(self.connection, target)?),
            };
            return Ok(RatedUsage { included_under: Some(bearer), ..nothing });
        }
        let wanted = attribution.hour_for(it.hour);
        let first = Some(wanted).filter(|first| *first > it.hour);
        // The ledger that was lost may have billed it to another hour, by what was known of the start then.
        if first.is_some() && unknown_hours_in(self.connection)?.holds(it.hour) {
            let record = Some(self.record_beside(target, it.customer, it.hour)?);
            return Ok(RatedUsage { record, quantity, moved: None, included_under: None });
        }
        let (record, hour) = if let Some(found) = cache.record {
            found
        } else {
            let standing = cache.standing.clone();
            let found = self.record(target, it.customer, wanted, standing.as_deref())?;
            *cache.record.insert(found)
        };
        let moved = match first {
            Some(_) => Some("before_start"),
            None => (hour != wanted).then_some("hour_frozen"),
        };
        Ok(RatedUsage { record: Some(record), quantity, moved, included_under: None })
    }

    /// Reports whether the books can hold so much more of a product.
    pub(crate) fn can_hold(
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
        Ok(PRODUCT_SUM_MOST - before - here >= more.millionths())
    }

    /// Counts a piece of usage where it was placed.
    pub(crate) fn count(
        &mut self,
        it: &UsageItem<'_>,
        attribution: &UsageAttribution,
        billed: RatedUsage,
        cache: &mut PlacementCache,
    ) {
        let target = attribution.target.as_ref();
        let product = target.map(|target| &target.product_id);
        self.sums.add(it.at, product, it.feature, it.quantity.millionths());
        if let Some(record) = billed.record {
            self.empty.remove(&record);
            *self.added.entry(record).or_default() += billed.quantity.millionths();
            if let Some(tags) = it.tags {
                let part = self.tagged.entry((record, tags.to_owned())).or_default();
                *part += billed.quantity.millionths();
            }
        }
        if let Some(target) = target {
            let included = it.quantity.saturating_sub(billed.quantity).millionths();
            self.total(&target.product_id, billed.quantity.millionths(), included);
        }
        if let Some(feature) = it.feature {
            let counter = cache.counter(it, feature, target);
            if let Billing::Overage { window, .. } = attribution.billing {
                let first = cache.first(&counter, &attribution.counts_with);
                let window = (first, window_key(window.around(it.at).start));
                if let Some(used) = self.windows.get_mut(&window) {
                    *used = used.saturating_add(it.quantity.millionths());
                }
            }
            let (used, billed) = (it.quantity.millionths(), billed.quantity.millionths());
            let amount = UsageAmount { used, billed };
            self.use_of(counter, &attribution.windows, it.at, amount);
        }
    }

    /// Takes back what a piece of usage counted while nothing bore it.
    pub(crate) fn uncount_waiting(
        &mut self,
        it: &UsageItem<'_>,
        product: &ProductId,
        billed: Quantity,
    ) {
        self.total(product, -billed.millionths(), 0);
        self.sums.add(it.at, Some(product), it.feature, -it.quantity.millionths());
        if let Some(feature) = it.feature {
            let counter = Rc::new(Counter::of(it.customer, feature, None));
            let amount =
                UsageAmount { used: -it.quantity.millionths(), billed: -billed.millionths() };
            self.use_of(counter, &[], it.at, amount);
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
    fn use_of(
        &mut self,
        counter: Rc<Counter>,
        windows: &[Window],
        at: Timestamp,
        amount: UsageAmount,
    ) {
        let hour = ClockHour::of(at).start();
        let from = windows.iter().map(|window| window.around(at).start).fold(hour, Timestamp::max);
        let so_far = self.used.entry((counter, millis(from))).or_default();
        so_far.used = so_far.used.saturating_add(amount.used);
        so_far.billed = so_far.billed.saturating_add(amount.billed);
    }

    /// Sums the usage in the window around a moment under the holders that count together, this report's included.
    fn used_in_window(
        &mut self,
        first: Rc<Counter>,
        together: &[String],
        window: Window,
        at: Timestamp,
    ) -> Result<i64, StoreError> {
        let around = window.around(at);
        let key = (first, window_key(around.start));
        if let Some(used) = self.windows.get(&key) {
            return Ok(*used);
        }
        let of = &*key.0;
        let end = around.end.map_or(i64::MAX, millis);
        let mut held: i64 = 0;
        for holder in together {
            let under: i64 = self
                .connection
                .prepare_cached(
                    "SELECT coalesce(sum(quantity), 0) FROM usage_hours
                     WHERE customer_id = ?1 AND feature_id = ?2 AND product_id = ?3 AND holder = ?4
                         AND from_ms >= ?5 AND from_ms < ?6",
                )
                .and_then(|mut select| {
                    let ids = (of.customer.as_str(), of.feature.as_str(), &of.product, holder);
                    select.query_row((ids.0, ids.1, ids.2, ids.3, key.1, end), |row| row.get(0))
                })
                .during("sum a window's usage")?;
            held = held.saturating_add(under);
        }
        // What this report counted before its window was asked for.
        let is_of_it = |counter: &Counter, from: &i64| {
            counter.customer == of.customer
                && counter.feature == of.feature
                && counter.product == of.product
                && together.contains(&counter.holder)
                && (key.1..end).contains(from)
        };
        let used = self
            .used
            .iter()
            .filter(|((counter, from), _)| is_of_it(counter, from))
            .fold(held, |sum, (_, amount)| sum.saturating_add(amount.used));
        self.windows.insert(key, used);
        Ok(used)
    }

    /// Finds the record for usage that may not leave its hour, and that AWS does not take in it.
    fn record_beside(
        &mut self,
        target: &MeteringTarget,
        customer: &CustomerId,
        hour: ClockHour,
    ) -> Result<i64, StoreError> {
        let key = RecordKey { target: target.clone(), customer: customer.clone(), hour };
        let found = record_beside_in(self.connection, &key, ParkReason::Restored)?;
        if found.new {
            self.empty.insert(found.id);
        }
        Ok(found.id)
    }

    fn record(
        &mut self,
        target: &MeteringTarget,
        customer: &CustomerId,
        hour: ClockHour,
        standing: Option<&RememberedCustomer>,
    ) -> Result<(i64, ClockHour), StoreError> {
        let key = RecordKey { target: target.clone(), customer: customer.clone(), hour };
        if let Some(standing) = standing
            && let Some(id) = standing.open_record(self.connection, &key)?
        {
            return Ok((id, hour));
        }
        let found = open_record_in(self.connection, &key)?;
        if found.new {
            self.empty.insert(found.id);
        }
        if let Some(standing) = standing
            && found.hour == hour
        {
            standing.note_record(&key, found.id);
        }
        Ok((found.id, found.hour))
    }

    /// Writes the sums.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        let connection = self.connection;
        for record in self.empty {
            delete_record_in(connection, record)?;
        }
        let mut add = connection
            .prepare_cached(
                "UPDATE OR FAIL metering_records SET quantity = quantity + ?2 WHERE id = ?1",
            )
            .during("add to metering records")?;
        // In the order in which they lie, so that what is found for one is near the next.
        let mut added: Vec<_> = self.added.into_iter().filter(|(_, more)| *more != 0).collect();
        added.sort_unstable();
        for (record, quantity) in added {
            add.post_one((record, quantity)).during("add to metering records")?;
        }
        for ((record, tags), quantity) in self.tagged {
            add_tagged_in(connection, record, &tags, quantity)?;
        }
        let mut count = connection
            .prepare_cached(
                "INSERT INTO usage_hours (customer_id, feature_id, product_id, holder, from_ms, quantity, billed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (customer_id, feature_id, product_id, holder, from_ms) DO UPDATE SET
                     quantity = usage_hours.quantity + excluded.quantity,
                     billed = usage_hours.billed + excluded.billed",
            )
            .during("count usage")?;
        let mut used: Vec<_> = self.used.into_iter().collect();
        used.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for ((counter, from), UsageAmount { used, billed }) in used {
            let Counter { customer, feature, product, holder } = &*counter;
            count
                .post_one((
                    customer.as_str(),
                    feature.as_str(),
                    product,
                    holder,
                    from,
                    used,
                    billed,
                ))
                .during("count usage")?;
        }
        let mut total = connection
            .prepare_cached(
                "INSERT INTO usage_totals (product_id, reported, included) VALUES (?1, ?2, ?3)
                 ON CONFLICT (product_id) DO UPDATE SET reported = usage_totals.reported + excluded.reported,
                     included = usage_totals.included + excluded.included",
            )
            .during("total usage")?;
        for (product, (reported, included)) in self.totals {
            total.post_one((product.as_str(), reported, included)).during("total usage")?;
        }
        self.sums.write_in(connection)
    }
}

/// Returns the short name of what would bear usage, were it not included.
fn bearer_in(connection: &Connection, target: &MeteringTarget) -> Result<i64, StoreError> {
    let holder = target.holder.as_ref().map(Holder::to_string).unwrap_or_default();
    let ids = (target.product_id.as_str(), holder.as_str(), target.dimension.as_str());
    let known = connection
        .prepare_cached(
            "SELECT id FROM usage_bearers WHERE product_id = ?1 AND holder = ?2 AND dimension = ?3",
        )
        .and_then(|mut select| select.query_row(ids, |row| row.get(0)).optional())
        .during("look up what bears included usage")?;
    match known {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached(
                "INSERT INTO usage_bearers (product_id, holder, dimension) VALUES (?1, ?2, ?3)
                 RETURNING id",
            )
            .and_then(|mut insert| insert.query_row(ids, |row| row.get(0)))
            .during("name what bears included usage"),
    }
}

/// Returns a window's start as usage is counted by: the lifetime's is before every time that there is.
pub(crate) fn window_key(start: Timestamp) -> i64 {
    if start == Timestamp::MIN { i64::MIN } else { millis(start) }
}
