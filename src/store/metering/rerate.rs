//! Rating anew what was used under holders that turn out to count together.
//!
//! Two customers are joined, an end or a renewal is told late: what had been counted apart counts together from then
//! on, and each part had what the plan includes to itself. What was included twice is owed. It is billed where that can
//! be done: to its own hour if that is open, else to the open one, and says so. What was billed stays billed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::attribution::{AttributionRequest, target_in};
use super::catalogue_view::CatalogueView;
use super::first_hour::first_hour_in;
use super::open_records::{add_tagged_in, carry_into};
use super::rating::window_key;
use super::records::open_record_in;
use super::slots::{MeteringTarget, RecordKey, Slot, slot_in};
use crate::domain::allowance::Billing;
use crate::domain::event::EventType;
use crate::domain::event::data::UsageRatedAnew;
use crate::domain::succession::{Chain, Successions};
use crate::domain::usage::UsageSubject;
use crate::domain::window::Window;
use crate::domain::{ClockHour, CustomerId, DimensionKey, FeatureId, Holder, ProductId};
use crate::store::base::columns::{millis, quantity, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{self, Connection};
use crate::store::subscriptions::grants::{granted_to_newest_in, successions_in};
use crate::store::subscriptions::holdings::holdings_in;
use crate::store::{During, StoreError};

/// The time after its end for which a window is rated anew: as long as AWS takes usage of its hours.
const RATED_ANEW: SignedDuration = SignedDuration::from_hours(24);
/// The most events that are rated anew one by one; the rest is billed as a sum.
const EVENTS_MOST: u32 = 10_000;
/// The reason word of usage that was included and is billed to another hour than its own.
const MOVED: &str = "rated_anew";

/// The chains of holders that counted together before something was learnt.
#[derive(Default)]
pub(crate) struct CountedChains(Vec<Chain>);

impl CountedChains {
    /// Reads what counts together of a customer's; nothing of one who has used nothing.
    pub(crate) fn of(connection: &Connection, customer: &CustomerId) -> Result<Self, StoreError> {
        let has_used = connection
            .prepare_cached("SELECT 1 FROM usage_hours WHERE customer_id = ?1")
            .and_then(|mut select| select.exists([customer.as_str()]))
            .during("see whether a customer has used anything")?;
        let successions =
            if has_used { successions_in(connection, customer)? } else { Successions::default() };
        Ok(Self(successions.chains().to_vec()))
    }

    /// Adds what counted together of another customer's, who is to become the same.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn place_of(&self, product: &ProductId, holder: &Holder) -> Option<usize> {
        self.0.iter().position(|it| it.product == *product && it.holders.contains(holder))
    }
}

/// Bills what was included more than once of what counts together now and did not before.
pub(crate) fn rate_anew_in(
    connection: &Connection,
    customer: &CustomerId,
    counted: &CountedChains,
    now: Timestamp,
) -> Result<(), StoreError> {
    if counted.0.len() < 2 {
        return Ok(());
    }
    let successions = successions_in(connection, customer)?;
    for chain in successions.chains() {
        let parts: BTreeMap<String, usize> = chain
            .holders
            .iter()
            .filter_map(|it| Some((it.to_string(), counted.place_of(&chain.product, it)?)))
            .collect();
        let first = parts.values().next();
        if parts.values().all(|part| Some(part) == first) {
            continue;
        }
        for feature in features_in(connection, customer)? {
            let rater = Rerater { connection, customer, chain, parts: &parts, feature, now };
            rater.rate()?;
        }
    }
    Ok(())
}

fn features_in(
    connection: &Connection,
    customer: &CustomerId,
) -> Result<Vec<FeatureId>, StoreError> {
    connection
        .prepare_cached("SELECT DISTINCT feature_id FROM usage_hours WHERE customer_id = ?1")
        .and_then(|mut select| {
            select
                .query_map([customer.as_str()], |row| row.get::<_, String>(0).map(FeatureId::new))?
                .collect()
        })
        .during("see what a customer has used")
}

/// Usage of one hour under one holder.
struct CountedHour {
    holder: String,
    from: i64,
    used: i64,
    billed: i64,
}

/// A usage event that is not billed in full, so that more of it can be billed.
struct RerateCandidate {
    rowid: i64,
    at: Timestamp,
    quantity: i64,
    billed: i64,
    tags: Option<String>,
    holder: String,
    record: CandidateRecord,
}

/// The record that a candidate's usage is billed with.
enum CandidateRecord {
    /// The open record that the event is in already.
    Open(i64),
    /// No record yet, since the plan included all of it; and the dimension to bill.
    Missing(DimensionKey),
}

/// Rates anew one feature's usage under holders that have come together.
struct Rerater<'a> {
    connection: &'a Connection,
    customer: &'a CustomerId,
    chain: &'a Chain,
    /// The group in which each holder counted before.
    parts: &'a BTreeMap<String, usize>,
    feature: FeatureId,
    now: Timestamp,
}

impl Rerater<'_> {
    fn rate(&self) -> Result<(), StoreError> {
        // The newest plan of them decides, as it does over further usage. Where all have ended it is the last that was
        // held, however long ago: what was included twice is owed all the same.
        let (chain, feature) = (self.chain, &self.feature);
        let granted =
            granted_to_newest_in(self.connection, self.customer, chain, feature, self.now)?;
        let Billing::Overage { included, window } = Billing::of(&granted) else { return Ok(()) };
        for (start, mut hours) in self.windows(window)? {
            let beyond = |used: i64| used.saturating_sub(included.millionths()).max(0);
            let mut parts: BTreeMap<usize, i64> = BTreeMap::new();
            for hour in &hours {
                *parts.entry(self.parts[&hour.holder]).or_default() += hour.used;
            }
            let all = beyond(parts.values().sum());
            let apart: i64 = parts.values().map(|used| beyond(*used)).sum();
            let billed: i64 = hours.iter().map(|hour| hour.billed).sum();
            let owed = (all - apart).min(all - billed);
            if owed > 0 {
                self.bill(start, window, &mut hours, owed)?;
            }
        }
        Ok(())
    }

    /// Returns the hours of each window that is rated anew, by the window's start.
    fn windows(&self, window: Window) -> Result<BTreeMap<i64, Vec<CountedHour>>, StoreError> {
        let oldest = self.now.saturating_sub(RATED_ANEW).unwrap_or(Timestamp::MIN);
        let since = window_key(window.around(oldest).start);
        let mut windows: BTreeMap<i64, Vec<CountedHour>> = BTreeMap::new();
        for holder in self.parts.keys() {
            let hours: Vec<CountedHour> = self
                .connection
                .prepare_cached(
                    "SELECT from_ms, quantity, billed FROM usage_hours
                     WHERE customer_id = ?1 AND feature_id = ?2 AND product_id = ?3 AND holder = ?4 AND from_ms >= ?5",
                )
                .and_then(|mut select| {
                    let product = self.chain.product.as_str();
                    let ids =
                        (self.customer.as_str(), self.feature.as_str(), product, holder, since);
                    let hour = |row: &sql::Row<'_>| {
                        let holder = holder.clone();
                        Ok(CountedHour {
                            holder,
                            from: row.get(0)?,
                            used: row.get(1)?,
                            billed: row.get(2)?,
                        })
                    };
                    select.query_map(ids, hour)?.collect()
                })
                .during("read what was used, hour by hour")?;
            for hour in hours {
                let start = window_key(window.around(timestamp(hour.from)).start);
                windows.entry(start).or_default().push(hour);
            }
        }
        Ok(windows)
    }

    /// Bills so much of what was included in a window, what was used last first.
    fn bill(
        &self,
        start: i64,
        window: Window,
        hours: &mut [CountedHour],
        owed: i64,
    ) -> Result<(), StoreError> {
        hours.sort_by(|one, other| (other.from, &other.holder).cmp(&(one.from, &one.holder)));
        let end = hours.first().and_then(|it| window.around(timestamp(it.from)).end);
        let mut left = owed;
        for event in self.candidates(start, end.map_or(i64::MAX, millis))? {
            if left == 0 {
                break;
            }
            let part = (event.quantity - event.billed).min(left);
            self.bill_event(&event, part)?;
            let of_it = |hour: &&mut CountedHour| {
                hour.holder == event.holder && timestamp(hour.from) <= event.at
            };
            if let Some(hour) = hours.iter_mut().find(of_it) {
                hour.billed += part;
                self.note_billed(hour, part)?;
            }
            left -= part;
        }
        if left > 0 {
            self.bill_sum(hours, left)?;
        }
        self.connection
            .prepare_cached(
                "UPDATE usage_totals SET reported = reported + ?2, included = included - ?2 WHERE product_id = ?1",
            )
            .and_then(|mut update| update.post((self.chain.product.as_str(), owed)))
            .during("total usage")?;
        let data = UsageRatedAnew {
            customer_id: self.customer,
            product_id: &self.chain.product,
            feature_id: &self.feature,
            quantity: quantity(owed),
        };
        append_event_in(
            self.connection,
            EventType::UsageRatedAnew,
            Some(self.customer),
            &data,
            self.now,
        )
    }

    /// Finds a window's events that are not billed in full, the newest first: those in an open record, and those in none,
    /// which the plan included wholly.
    fn candidates(&self, start: i64, end: i64) -> Result<Vec<RerateCandidate>, StoreError> {
        let mut found = Vec::new();
        for holder in self.parts.keys() {
            for (statement, is_record) in [(IN_OPEN_RECORDS, true), (INCLUDED_WHOLLY, false)] {
                let rows: Vec<RerateCandidate> = self
                    .connection
                    .prepare_cached(statement)
                    .and_then(|mut select| {
                        let product = self.chain.product.as_str();
                        let ids = (product, holder, self.feature.as_str(), start, end, EVENTS_MOST);
                        select
                            .query_map(ids, |row| candidate_row(row, holder, is_record))?
                            .collect()
                    })
                    .during("find included usage")?;
                found.extend(rows);
            }
        }
        found.sort_by_key(|event| Reverse((event.at, event.rowid)));
        Ok(found)
    }

    fn bill_event(&self, event: &RerateCandidate, part: i64) -> Result<(), StoreError> {
        let (record, moved) = match &event.record {
            CandidateRecord::Open(record) => (*record, None),
            CandidateRecord::Missing(dimension) => self.record_for(event, dimension)?,
        };
        self.connection
            .prepare_cached(
                "UPDATE usage_events SET billed = billed + ?2, record_id = ?3, included_under = NULL,
                     moved = coalesce(moved, ?4)
                 WHERE rowid = ?1",
            )
            .and_then(|mut update| update.post((event.rowid, part, record, moved)))
            .during("bill included usage")?;
        self.connection
            .prepare_cached("UPDATE metering_records SET quantity = quantity + ?2 WHERE id = ?1")
            .and_then(|mut update| update.execute((record, part)))
            .during("bill included usage")?;
        match &event.tags {
            Some(tags) => add_tagged_in(self.connection, record, tags, part),
            None => Ok(()),
        }
    }

    /// Finds the record for usage that has none, and the reason why it is not that of its own hour.
    fn record_for(
        &self,
        event: &RerateCandidate,
        dimension: &DimensionKey,
    ) -> Result<(i64, Option<&'static str>), StoreError> {
        let own = ClockHour::of(event.at);
        let target_of = |holder: Option<Holder>| MeteringTarget {
            product_id: self.chain.product.clone(),
            dimension: dimension.clone(),
            holder,
        };
        // An hour is metered in one form: that in which it is open already.
        for holder in &self.chain.holders {
            let (target, customer) = (target_of(Some(holder.clone())), self.customer.clone());
            let key = RecordKey { target, customer, hour: own };
            if let Slot::Open(record) = slot_in(self.connection, &key, own)? {
                return Ok((record, None));
            }
        }
        let hour = ClockHour::of(self.now);
        let target = match self.current_target(hour)? {
            Some(target) => target,
            None => target_of(Holder::parse(&event.holder)),
        };
        let found = self.open(&target, hour)?;
        Ok((found.0, (found.1 != own).then_some(MOVED)))
    }

    /// Returns the target of usage of this hour as far as it is known now, if its holder is one of those that have come
    /// together.
    fn current_target(&self, hour: ClockHour) -> Result<Option<MeteringTarget>, StoreError> {
        let holdings = holdings_in(self.connection, self.customer)?;
        let request = AttributionRequest {
            customer: self.customer.clone(),
            subject: UsageSubject::Feature(self.feature.clone()),
            license: None,
            hour,
            stretch: holdings.stretch(self.now),
        };
        let catalogue = CatalogueView::new(self.connection);
        let target = target_in(&catalogue, &request, &holdings, self.now)?.ok().flatten();
        Ok(target.filter(|target| {
            target.product_id == self.chain.product
                && target.holder.as_ref().is_some_and(|it| self.chain.holders.contains(it))
        }))
    }

    fn open(
        &self,
        target: &MeteringTarget,
        hour: ClockHour,
    ) -> Result<(i64, ClockHour), StoreError> {
        let first = first_hour_in(self.connection, target.holder.as_ref())?.unwrap_or(hour);
        let (target, customer) = (target.clone(), self.customer.clone());
        let key = RecordKey { target, customer, hour: hour.max(first) };
        let found = open_record_in(self.connection, &key)?;
        Ok((found.id, found.hour))
    }

    /// Bills what is owed of events that frozen records bear the rest of: they never change, so it is carried into the
    /// open one.
    fn bill_sum(&self, hours: &mut [CountedHour], owed: i64) -> Result<(), StoreError> {
        let hour = ClockHour::of(self.now);
        let target = match self.current_target(hour)? {
            Some(target) => Some(target),
            None => self.newest_target()?,
        };
        let Some(target) = target else {
            return Err(StoreError::Corrupt {
                what: "usage",
                detail: format!("{} was included under nothing that can bear it", self.feature),
            });
        };
        let (record, _) = self.open(&target, hour)?;
        carry_into(self.connection, record, owed, &[])?;
        let mut left = owed;
        for hour in hours {
            let part = (hour.used - hour.billed).min(left).max(0);
            hour.billed += part;
            self.note_billed(hour, part)?;
            left -= part;
        }
        Ok(())
    }

    /// Returns the target under the newest of the holders that have come together.
    fn newest_target(&self) -> Result<Option<MeteringTarget>, StoreError> {
        let dimension: Option<String> = self
            .connection
            .prepare_cached(
                "SELECT max(dimension) FROM feature_dimensions WHERE feature_id = ?1 AND product_id = ?2",
            )
            .and_then(|mut select| {
                let ids = (self.feature.as_str(), self.chain.product.as_str());
                select.query_row(ids, |row| row.get(0))
            })
            .during("read a feature's dimension")?;
        Ok(dimension.map(|dimension| MeteringTarget {
            product_id: self.chain.product.clone(),
            dimension: DimensionKey::new(dimension),
            holder: self.chain.holders.last().cloned(),
        }))
    }

    fn note_billed(&self, hour: &CountedHour, part: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE usage_hours SET billed = billed + ?6
                 WHERE customer_id = ?1 AND feature_id = ?2 AND product_id = ?3 AND holder = ?4 AND from_ms = ?5",
            )
            .and_then(|mut update| {
                let product = self.chain.product.as_str();
                let ids = (self.customer.as_str(), self.feature.as_str(), product, &hour.holder);
                update.post((ids.0, ids.1, ids.2, ids.3, hour.from, part))
            })
            .during("note what is billed")?;
        Ok(())
    }
}

const IN_OPEN_RECORDS: &str = "SELECT u.rowid, least(u.at_ms, u.received_at_ms) AS at, u.quantity, u.billed, u.tags, r.id
     FROM metering_records r JOIN usage_events u ON u.record_id = r.id
     WHERE r.product_id = ?1 AND r.holder = ?2 AND r.holder <> '' AND r.state = 'open' AND u.feature_id = ?3
       AND u.billed < u.quantity AND least(u.at_ms, u.received_at_ms) >= ?4 AND least(u.at_ms, u.received_at_ms) < ?5
     LIMIT ?6";
const INCLUDED_WHOLLY: &str = "SELECT u.rowid, least(u.at_ms, u.received_at_ms) AS at, u.quantity, u.billed, u.tags, b.dimension
     FROM usage_bearers b JOIN usage_events u ON u.included_under = b.id
     WHERE b.product_id = ?1 AND b.holder = ?2 AND u.feature_id = ?3 AND u.at_ms >= ?4
       AND least(u.at_ms, u.received_at_ms) < ?5
     ORDER BY u.at_ms DESC LIMIT ?6";

fn candidate_row(
    row: &sql::Row<'_>,
    holder: &str,
    is_record: bool,
) -> sql::Result<RerateCandidate> {
    Ok(RerateCandidate {
        rowid: row.get(0)?,
        at: timestamp(row.get(1)?),
        quantity: row.get(2)?,
        billed: row.get(3)?,
        tags: row.get(4)?,
        holder: holder.to_owned(),
        record: if is_record {
            CandidateRecord::Open(row.get(5)?)
        } else {
            CandidateRecord::Missing(DimensionKey::new(row.get::<_, String>(5)?))
        },
    })
}
