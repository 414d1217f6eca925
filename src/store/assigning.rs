//! Usage that waited for a subscription: billed to the one that has turned up, or parked when none did in time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use rusqlite::Connection;

use super::billing::{Biller, Use};
use super::closing::{Closed, Closing, park};
use super::convert::timestamp;
use super::records::{OpenRecord, carry_into, delete_record_in, open_record_in, open_record_row};
use super::routes::{Choice, Question, Route, RouteError, choose_in, first_hour_in, route_to};
use super::usage::quantity;
use super::{During, StoreError};
use crate::domain::ledger::deadline;
use crate::domain::usage::UsageSubject;
use crate::domain::{FeatureId, Holder, Quantity};

/// Looks at every record that nobody bears yet.
pub(super) fn assign_waiting(
    connection: &Connection,
    closing: &Closing,
    now: Timestamp,
    closed: &mut Closed,
) -> Result<(), StoreError> {
    let waiting: Vec<OpenRecord> = connection
        .prepare_cached(
            "SELECT * FROM metering_records WHERE state = 'open' AND holder = '' ORDER BY hour, id",
        )
        .and_then(|mut select| select.query_map([], open_record_row)?.collect())
        .during("find usage that waits for a subscription")?;
    for record in waiting {
        assign(connection, &record, closing, now, closed)?;
    }
    Ok(())
}

fn assign(
    connection: &Connection,
    record: &OpenRecord,
    closing: &Closing,
    now: Timestamp,
    closed: &mut Closed,
) -> Result<(), StoreError> {
    let question = Question {
        customer: record.customer.clone(),
        subject: UsageSubject::Dimension {
            product_id: record.product_id.clone(),
            dimension: record.dimension.clone(),
        },
        license: None,
        hour: record.hour,
    };
    let hopeless = now >= deadline(record.hour, closing.window);
    let reason = match choose_in(connection, &question, &record.product_id, now)? {
        Ok(Choice::Holder(holder)) => {
            return bill_to(connection, record, &question, &holder, now);
        }
        Ok(Choice::Waits) if hopeless => "no_subscription",
        Err(RouteError::LicenseRequired(_)) if hopeless => "license_required",
        Err(RouteError::SubscriptionEnded(_)) => "subscription_ended",
        Ok(Choice::Counted) if hopeless => "direct_customer",
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

/// Bills each event anew, as it would have been had the subscription been known: what its plan includes is not
/// billed. What a person carried into the record has no events; it moves as it is.
fn bill_to(
    connection: &Connection,
    record: &OpenRecord,
    question: &Question,
    holder: &Holder,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut biller = Biller::new(connection);
    let mut carried = record.quantity;
    let mut routes: HashMap<Option<FeatureId>, Route> = HashMap::new();
    for event in events_of(connection, record.id)? {
        let route = match routes.entry(event.feature.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(slot) => {
                let subject = match &event.feature {
                    Some(feature) => UsageSubject::Feature(feature.clone()),
                    None => question.subject.clone(),
                };
                let question = Question { subject, ..question.clone() };
                let bears = record.key(Some(holder.clone()), record.hour).bears;
                slot.insert(route_to(connection, &question, Some(bears), now)?)
            }
        };
        let it = Use {
            customer: &record.customer,
            feature: event.feature.as_ref(),
            quantity: event.quantity,
            at: event.at,
            hour: record.hour,
            tags: event.tags.as_deref(),
        };
        let billed = biller.place(&it, route)?;
        biller.uncount_waiting(&it, &record.product_id, event.billed);
        biller.count(&it, route, billed);
        carried -= event.billed.millionths();
        connection
            .prepare_cached(
                "UPDATE usage_events SET record_id = ?2, billed = ?3, moved = ifnull(moved, ?4)
                 WHERE rowid = ?1",
            )
            .and_then(|mut update| {
                let billed_units = billed.quantity.millionths();
                update.execute((event.rowid, billed.record, billed_units, billed.moved))
            })
            .during("assign usage to a subscription")?;
    }
    biller.finish()?;
    if carried > 0 {
        let first = first_hour_in(connection, Some(holder))?.unwrap_or(record.hour);
        let key = record.key(Some(holder.clone()), record.hour.max(first));
        let target = open_record_in(connection, &key)?;
        carry_into(connection, target.id, carried, &[])?;
    }
    delete_record_in(connection, record.id)
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
