//! Usage that waited for a subscription: billed to the one that has turned up, or parked when none did in time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jiff::Timestamp;

use super::attribution::{
    AttributionError, AttributionRequest, UsageAttribution, attribution_to, choose_in, target_in,
};
use super::billable::Place;
use super::catalogue_view::CatalogueView;
use super::first_hour::first_hour_in;
use super::open_records::{
    OpenRecord, add_tagged_in, delete_record_in, open_record, open_record_row,
};
use super::parking::park;
use super::placement::{PlacementCache, UsageItem};
use super::policy::{ClosedCounts, ClosingPolicy};
use super::rating::{RatedUsage, Rater};
use super::side_records::park_unknown_in;
use super::slots::MeteringTarget;
use super::unknown_hours::unknown_hours_in;
use crate::domain::ledger::{HolderChoice, ParkReason, deadline};
use crate::domain::usage::UsageSubject;
use crate::domain::{FeatureId, Quantity};
use crate::store::base::columns::{quantity, timestamp};
use crate::store::engine::sql::Connection;
use crate::store::subscriptions::holdings::{Holdings, holdings_in};
use crate::store::{During, StoreError};

/// Judges up to `most` records that nobody bears yet, after a place; returns the place to go on from, if there is one.
pub(crate) fn assign_waiting(
    connection: &Connection,
    policy: &ClosingPolicy,
    after: Place,
    most: usize,
    now: Timestamp,
) -> Result<(ClosedCounts, Option<Place>), StoreError> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let waiting: Vec<OpenRecord> = connection
        .prepare_cached(concat!(
            "SELECT ",
            open_record!(),
            " FROM metering_records r WHERE state = 'open' AND holder = '' AND (hour, id) > (?1, ?2)
             ORDER BY hour, id LIMIT ?3",
        ))
        .and_then(|mut select| {
            select.query_map((after.0, after.1, limit), open_record_row)?.collect()
        })
        .during("find usage that waits for a subscription")?;
    let mut closed = ClosedCounts::default();
    for record in &waiting {
        assign(connection, record, policy, now, &mut closed)?;
    }
    let last = waiting.last().filter(|_| waiting.len() == most);
    Ok((closed, last.map(|record| (record.hour.number(), record.id))))
}

/// Bills what has found its subscription, and parks the rest once AWS would not take it any more.
fn assign(
    connection: &Connection,
    record: &OpenRecord,
    policy: &ClosingPolicy,
    now: Timestamp,
    closed: &mut ClosedCounts,
) -> Result<(), StoreError> {
    let hopeless = now >= deadline(record.hour, policy.window);
    if hopeless && unknown_hours_in(connection)?.holds(record.hour) {
        closed.parked += 1;
        return park_unknown_in(connection, record.id, ParkReason::Restored, now);
    }
    let mut waiting = WaitingRecord::new(connection, record, now)?;
    if waiting.may_bill() {
        waiting.bill()?;
    }
    let Some(reason) = waiting.finish()? else { return Ok(()) };
    let reason = match reason {
        WaitReason::Ended => ParkReason::SubscriptionEnded,
        WaitReason::Subscription if hopeless => ParkReason::NoSubscription,
        WaitReason::SeveralSubscriptions if hopeless => ParkReason::LicenseRequired,
        WaitReason::BoughtDirectly if hopeless => ParkReason::DirectCustomer,
        _ => return Ok(()),
    };
    closed.parked += 1;
    park(connection, record.id, reason, now)
}

/// An event that a waiting record bears.
struct WaitingEvent {
    rowid: i64,
    feature: Option<FeatureId>,
    quantity: Quantity,
    billed: Quantity,
    at: Timestamp,
    tags: Option<String>,
}

/// The reason why usage cannot be billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitReason {
    /// No subscription has turned up.
    Subscription,
    /// Several subscriptions could bear it, and none is named.
    SeveralSubscriptions,
    /// The subscription has ended.
    Ended,
    /// The subscription was bought on the seller's own site.
    BoughtDirectly,
}

/// The attribution of a record's usage of one feature, found once.
struct WaitingAttribution {
    attribution: UsageAttribution,
    cache: RefCell<PlacementCache>,
}

/// The key of usage that is attributed alike: its feature, and the stretch of its use.
type AttributionKey = (Option<FeatureId>, Timestamp);

/// A record that waits for a subscription, while its events are attributed one by one.
struct WaitingRecord<'a> {
    connection: &'a Connection,
    catalogue: CatalogueView<'a>,
    record: &'a OpenRecord,
    now: Timestamp,
    holdings: Holdings,
    cached: HashMap<AttributionKey, Result<Rc<WaitingAttribution>, WaitReason>>,
    /// The quantity that leaves the record.
    moved: Quantity,
    /// The reason why the rest stays in the record.
    reason: Option<WaitReason>,
}

impl<'a> WaitingRecord<'a> {
    fn new(
        connection: &'a Connection,
        record: &'a OpenRecord,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let holdings = holdings_in(connection, &record.customer)?;
        Ok(Self {
            connection,
            catalogue: CatalogueView::new(connection),
            record,
            now,
            holdings,
            cached: HashMap::new(),
            moved: Quantity::ZERO,
            reason: None,
        })
    }

    /// Reports whether the customer holds anything that may bear usage; one who holds nothing costs no further look.
    fn may_bill(&mut self) -> bool {
        if self.holdings.is_empty() {
            self.reason = Some(WaitReason::Subscription);
        }
        !self.holdings.is_empty()
    }

    /// Bills each event anew, as it would have been had the subscription been known: what its plan includes is not
    /// billed.
    fn bill(&mut self) -> Result<(), StoreError> {
        let connection = self.connection;
        let mut rater = Rater::new(connection);
        for event in events_of(connection, self.record.id)? {
            let attributed = match self.attribution_of(event.feature.as_ref(), event.at)? {
                Ok(attributed) => attributed,
                Err(reason) => {
                    self.reason = self.reason.or(Some(reason));
                    continue;
                }
            };
            let it = UsageItem {
                customer: &self.record.customer,
                feature: event.feature.as_ref(),
                quantity: event.quantity,
                at: event.at,
                hour: self.record.hour,
                tags: event.tags.as_deref(),
            };
            let mut cache = attributed.cache.borrow_mut();
            let billed = rater.place(&it, &attributed.attribution, &mut cache)?;
            rater.uncount_waiting(&it, &self.record.product_id, event.billed);
            rater.count(&it, &attributed.attribution, billed, &mut cache);
            move_event_in(connection, &event, billed)?;
            if let Some(tags) = it.tags {
                add_tagged_in(connection, self.record.id, tags, -event.billed.millionths())?;
            }
            self.moved = self.moved.saturating_add(event.billed);
        }
        rater.finish()
    }

    fn request(&self, feature: Option<&FeatureId>, at: Timestamp) -> AttributionRequest {
        let record = self.record;
        let own = || UsageSubject::Dimension {
            product_id: record.product_id.clone(),
            dimension: record.dimension.clone(),
        };
        AttributionRequest {
            customer: record.customer.clone(),
            subject: feature.cloned().map_or_else(own, UsageSubject::Feature),
            license: None,
            hour: record.hour,
            stretch: self.holdings.stretch(at),
        }
    }

    /// Returns the target of usage of the record's own dimension, which names no feature.
    fn own(
        &self,
        request: &AttributionRequest,
    ) -> Result<Result<MeteringTarget, WaitReason>, StoreError> {
        let record = self.record;
        let of = (&record.product_id, &record.dimension);
        let choice = choose_in(&self.catalogue, request, of, &self.holdings, self.now)?;
        Ok(match choice {
            Ok(HolderChoice::Holder(holder)) => Ok(record.key(Some(holder), record.hour).target),
            Ok(HolderChoice::Waits) => Err(WaitReason::Subscription),
            Ok(HolderChoice::Counted) => Err(WaitReason::BoughtDirectly),
            Err(error) => Err(reason_of(&error)),
        })
    }

    /// Returns the attribution of usage of a feature. It may wait under one product for another.
    fn attribution_of(
        &mut self,
        feature: Option<&FeatureId>,
        at: Timestamp,
    ) -> Result<Result<Rc<WaitingAttribution>, WaitReason>, StoreError> {
        let request = self.request(feature, at);
        let kind = (feature.cloned(), request.stretch);
        if let Some(known) = self.cached.get(&kind) {
            return Ok(known.clone());
        }
        let target = match feature {
            None => self.own(&request)?,
            Some(_) => match target_in(&self.catalogue, &request, &self.holdings, self.now)? {
                Ok(Some(target)) if target.holder.is_some() => Ok(target),
                Err(error @ AttributionError::LicenseRequired(_)) => Err(reason_of(&error)),
                // The feature may mean nothing there any more; what was reported still does.
                Ok(_) | Err(_) => self.own(&request)?,
            },
        };
        let attributed = match target {
            Ok(target) => {
                let first = first_hour_in(self.connection, target.holder.as_ref())?;
                let attribution =
                    attribution_to(self.connection, &request, Some(target), first, self.now)?;
                Ok(Rc::new(WaitingAttribution { attribution, cache: RefCell::default() }))
            }
            Err(reason) => Err(reason),
        };
        self.cached.insert(kind, attributed.clone());
        Ok(attributed)
    }

    /// Takes out of the record what has left it; returns the reason why the rest stays, if anything does.
    fn finish(self) -> Result<Option<WaitReason>, StoreError> {
        if self.reason.is_none() {
            delete_record_in(self.connection, self.record.id)?;
            return Ok(None);
        }
        if self.moved > Quantity::ZERO {
            self.connection
                .prepare_cached(
                    "UPDATE metering_records SET quantity = quantity - ?2 WHERE id = ?1",
                )
                .and_then(|mut update| update.post((self.record.id, self.moved.millionths())))
                .during("assign a part of what waits")?;
        }
        Ok(self.reason)
    }
}

fn reason_of(error: &AttributionError) -> WaitReason {
    match error {
        AttributionError::LicenseRequired(_) => WaitReason::SeveralSubscriptions,
        AttributionError::SubscriptionEnded(_) => WaitReason::Ended,
        _ => WaitReason::Subscription,
    }
}

fn move_event_in(
    connection: &Connection,
    event: &WaitingEvent,
    billed: RatedUsage,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE usage_events SET record_id = ?2, billed = ?3, moved = coalesce(moved, ?4), included_under = ?5
             WHERE rowid = ?1",
        )
        .and_then(|mut update| {
            let units = billed.quantity.millionths();
            let (moved, included) = (billed.moved, billed.included_under);
            update.post((event.rowid, billed.record, units, moved, included))
        })
        .during("assign usage to a subscription")?;
    Ok(())
}

fn events_of(connection: &Connection, record: i64) -> Result<Vec<WaitingEvent>, StoreError> {
    connection
        .prepare_cached(
            "SELECT rowid, feature_id, quantity, billed, least(at_ms, received_at_ms), tags FROM usage_events
             WHERE record_id = ?1 ORDER BY rowid",
        )
        .and_then(|mut select| {
            select
                .query_map([record], |row| {
                    Ok(WaitingEvent {
                        rowid: row.get(0)?,
                        feature: row.get::<_, Option<String>>(1)?.map(FeatureId::new),
                        quantity: quantity(row.get(2)?),
                        billed: quantity(row.get(3)?),
                        at: timestamp(row.get(4)?),
                        tags: row.get(5)?,
                    })
                })?
                .collect()
        })
        .during("read the usage that waits")
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::billable::BEGINNING;
    use super::*;
    use crate::store::test_database::open_store;

    #[tokio::test]
    async fn what_waits_is_judged_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("m.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let policy = ClosingPolicy {
            grace: SignedDuration::from_mins(5),
            window: SignedDuration::from_hours(24),
            region: "us-east-1".into(),
            zero_usage: false,
        };
        let parked = store.write(move |connection| {
            for number in 0..5 {
                connection
                    .execute(
                        "INSERT INTO metering_records
                             (product_id, customer_id, holder, dimension, hour, quantity, state)
                         VALUES ('p', 'c' || CAST(?1 AS BIGINT), '', 'gb', 1, 1000000, 'open')",
                        [number],
                    )
                    .during("test")?;
            }
            let (mut place, mut parked) = (Some(BEGINNING), Vec::new());
            while let Some(after) = place {
                let (closed, next) = assign_waiting(connection, &policy, after, 2, now)?;
                parked.push(closed.parked);
                place = next;
            }
            Ok::<_, StoreError>(parked)
        });
        assert_eq!(parked.await.unwrap(), [2, 2, 1]);
    }
}
