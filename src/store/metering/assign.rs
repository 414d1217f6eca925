//! Usage that waited for a subscription: billed to the one that has turned up, or parked when none did in time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::Connection;

use super::attribution::{Choice, Question, Route, RouteError, bears_in, choose_in, route_to};
use super::open_records::{
    OpenRecord, add_tagged_in, delete_record_in, open_record, open_record_row,
};
use super::parking::park;
use super::policy::{Closed, Closing};
use super::rating::{Billed, Biller, Lane, Use};
use super::side_records::park_unknown_in;
use super::slots::Bears;
use super::unknown_hours::{RESTORED, unknown_hours_in};
use crate::domain::ledger::deadline;
use crate::domain::usage::UsageSubject;
use crate::domain::{FeatureId, Quantity};
use crate::store::base::columns::{quantity, timestamp};
use crate::store::subscriptions::holdings::{Holdings, holdings_in};
use crate::store::{During, StoreError};

/// Looks at every record that nobody bears yet.
pub(crate) fn assign_waiting(
    connection: &Connection,
    closing: &Closing,
    now: Timestamp,
    closed: &mut Closed,
) -> Result<(), StoreError> {
    let waiting: Vec<OpenRecord> = connection
        .prepare_cached(concat!(
            "SELECT ",
            open_record!(),
            " FROM metering_records r WHERE state = 'open' AND holder = '' ORDER BY hour, id",
        ))
        .and_then(|mut select| select.query_map([], open_record_row)?.collect())
        .during("find usage that waits for a subscription")?;
    for record in waiting {
        assign(connection, &record, closing, now, closed)?;
    }
    Ok(())
}

/// Bills what has found its subscription, and parks the rest once AWS would not take it any more.
fn assign(
    connection: &Connection,
    record: &OpenRecord,
    closing: &Closing,
    now: Timestamp,
    closed: &mut Closed,
) -> Result<(), StoreError> {
    let hopeless = now >= deadline(record.hour, closing.window);
    if hopeless && unknown_hours_in(connection)?.hold(record.hour) {
        closed.parked += 1;
        return park_unknown_in(connection, record.id, RESTORED, now);
    }
    let mut assigner = Assigner::new(connection, record, now)?;
    if assigner.may_bill() {
        assigner.bill()?;
    }
    let Some(lack) = assigner.finish()? else { return Ok(()) };
    let reason = match lack {
        Lack::Ended => "subscription_ended",
        Lack::Subscription if hopeless => "no_subscription",
        Lack::Choice if hopeless => "license_required",
        Lack::Billing if hopeless => "direct_customer",
        _ => return Ok(()),
    };
    closed.parked += 1;
    park(connection, record.id, reason, now)
}

/// An event that a waiting record bears.
struct Waiting {
    rowid: i64,
    feature: Option<FeatureId>,
    quantity: Quantity,
    billed: Quantity,
    at: Timestamp,
    tags: Option<String>,
}

/// The reason why usage cannot be billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// No subscription has turned up.
    Subscription,
    /// Several have.
    Choice,
    /// It has ended.
    Ended,
    /// It was bought on the seller's own site.
    Billing,
}

/// Where a record's usage of a feature goes.
struct Way {
    route: Route,
    lane: RefCell<Lane>,
}

/// The part that usage of a record has in common which is attributed alike: its feature, and the stretch of its use.
type Kind = (Option<FeatureId>, Timestamp);

/// Where a waiting record's usage goes.
struct Assigner<'a> {
    connection: &'a Connection,
    record: &'a OpenRecord,
    now: Timestamp,
    holdings: Holdings,
    ways: HashMap<Kind, Result<Rc<Way>, Lack>>,
    /// The quantity that leaves the record.
    moved: Quantity,
    /// Why what stays does.
    lack: Option<Lack>,
}

impl<'a> Assigner<'a> {
    fn new(
        connection: &'a Connection,
        record: &'a OpenRecord,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let holdings = holdings_in(connection, &record.customer)?;
        Ok(Self {
            connection,
            record,
            now,
            holdings,
            ways: HashMap::new(),
            moved: Quantity::ZERO,
            lack: None,
        })
    }

    /// Reports whether anything may have found its subscription: who has none at all costs no more than this.
    fn may_bill(&mut self) -> bool {
        if self.holdings.is_empty() {
            self.lack = Some(Lack::Subscription);
        }
        !self.holdings.is_empty()
    }

    /// Bills each event anew, as it would have been had the subscription been known: what its plan includes is not
    /// billed.
    fn bill(&mut self) -> Result<(), StoreError> {
        let connection = self.connection;
        let mut biller = Biller::new(connection);
        for event in events_of(connection, self.record.id)? {
            let way = match self.way(event.feature.as_ref(), event.at)? {
                Ok(way) => way,
                Err(lack) => {
                    self.lack = self.lack.or(Some(lack));
                    continue;
                }
            };
            let it = Use {
                customer: &self.record.customer,
                feature: event.feature.as_ref(),
                quantity: event.quantity,
                at: event.at,
                hour: self.record.hour,
                tags: event.tags.as_deref(),
            };
            let mut lane = way.lane.borrow_mut();
            let billed = biller.place(&it, &way.route, &mut lane)?;
            biller.uncount_waiting(&it, &self.record.product_id, event.billed);
            biller.count(&it, &way.route, billed, &mut lane);
            move_event_in(connection, &event, billed)?;
            if let Some(tags) = it.tags {
                add_tagged_in(connection, self.record.id, tags, -event.billed.millionths())?;
            }
            self.moved = self.moved.saturating_add(event.billed);
        }
        biller.finish()
    }

    fn question(&self, feature: Option<&FeatureId>, at: Timestamp) -> Question {
        let record = self.record;
        let own = || UsageSubject::Dimension {
            product_id: record.product_id.clone(),
            dimension: record.dimension.clone(),
        };
        Question {
            customer: record.customer.clone(),
            subject: feature.cloned().map_or_else(own, UsageSubject::Feature),
            license: None,
            hour: record.hour,
            stretch: self.holdings.stretch(at),
        }
    }

    /// Where the record's own dimension goes: usage that names no feature.
    fn own(&self, question: &Question) -> Result<Result<Bears, Lack>, StoreError> {
        let record = self.record;
        let of = (&record.product_id, &record.dimension);
        let choice = choose_in(self.connection, question, of, &self.holdings, self.now)?;
        Ok(match choice {
            Ok(Choice::Holder(holder)) => Ok(record.key(Some(holder), record.hour).bears),
            Ok(Choice::Waits) => Err(Lack::Subscription),
            Ok(Choice::Counted) => Err(Lack::Billing),
            Err(error) => Err(lack_of(&error)),
        })
    }

    /// Where usage of a feature goes. It may wait under one product for another.
    fn way(
        &mut self,
        feature: Option<&FeatureId>,
        at: Timestamp,
    ) -> Result<Result<Rc<Way>, Lack>, StoreError> {
        let question = self.question(feature, at);
        let kind = (feature.cloned(), question.stretch);
        if let Some(known) = self.ways.get(&kind) {
            return Ok(known.clone());
        }
        let bears = match feature {
            None => self.own(&question)?,
            Some(_) => match bears_in(self.connection, &question, &self.holdings, self.now)? {
                Ok(Some(bears)) if bears.holder.is_some() => Ok(bears),
                Err(error @ RouteError::LicenseRequired(_)) => Err(lack_of(&error)),
                // The feature may mean nothing there any more; what was reported still does.
                Ok(_) | Err(_) => self.own(&question)?,
            },
        };
        let way = match bears {
            Ok(bears) => {
                let route = route_to(self.connection, &question, Some(bears), self.now)?;
                Ok(Rc::new(Way { route, lane: RefCell::default() }))
            }
            Err(lack) => Err(lack),
        };
        self.ways.insert(kind, way.clone());
        Ok(way)
    }

    /// Takes what has left out of the record; why the rest stays, if there is one.
    fn finish(self) -> Result<Option<Lack>, StoreError> {
        if self.lack.is_none() {
            delete_record_in(self.connection, self.record.id)?;
            return Ok(None);
        }
        if self.moved > Quantity::ZERO {
            self.connection
                .prepare_cached(
                    "UPDATE metering_records SET quantity = quantity - ?2 WHERE id = ?1",
                )
                .and_then(|mut update| update.execute((self.record.id, self.moved.millionths())))
                .during("assign a part of what waits")?;
        }
        Ok(self.lack)
    }
}

fn lack_of(error: &RouteError) -> Lack {
    match error {
        RouteError::LicenseRequired(_) => Lack::Choice,
        RouteError::SubscriptionEnded(_) => Lack::Ended,
        _ => Lack::Subscription,
    }
}

fn move_event_in(
    connection: &Connection,
    event: &Waiting,
    billed: Billed,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE usage_events SET record_id = ?2, billed = ?3, moved = ifnull(moved, ?4), included_under = ?5
             WHERE rowid = ?1",
        )
        .and_then(|mut update| {
            let units = billed.quantity.millionths();
            let (moved, included) = (billed.moved, billed.included_under);
            update.execute((event.rowid, billed.record, units, moved, included))
        })
        .during("assign usage to a subscription")?;
    Ok(())
}

fn events_of(connection: &Connection, record: i64) -> Result<Vec<Waiting>, StoreError> {
    connection
        .prepare_cached(
            "SELECT rowid, feature_id, quantity, billed, min(at_ms, received_at_ms), tags FROM usage_events
             WHERE record_id = ?1 ORDER BY rowid",
        )
        .and_then(|mut select| {
            select
                .query_map([record], |row| {
                    Ok(Waiting {
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
