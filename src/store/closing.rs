//! Closing hours: what is open and over becomes a frozen record, in one transaction.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, named_params};

use super::convert::{millis, optional_timestamp};
use super::records::{OpenRecord, carry_in, existing_record_in, open_record_in, open_record_row};
use super::routes::{Choice, RouteError, bearers_in, choose, first_hour_in};
use super::usage::quantity;
use super::{During, Store, StoreError};
use crate::domain::ledger::{deadline, final_deadline, is_over, split, wire_identity};
use crate::domain::{
    AccountId, ClockHour, CustomerIdentifier, Holder, LicenseArn, ProductCode, Quantity,
};

/// When and how hours close.
#[derive(Clone, Debug)]
pub struct Closing {
    /// How long after its end an hour closes.
    pub grace: SignedDuration,
    /// How long an hour is worth sending.
    pub window: SignedDuration,
    /// Where usage is metered.
    pub region: String,
}

/// What closing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Records frozen.
    pub frozen: usize,
    /// Records parked: nobody turned up who could bear them.
    pub parked: usize,
}

/// The subscription that bears a record.
struct Bearing {
    product_code: ProductCode,
    account_id: Option<AccountId>,
    leaving: bool,
    ended_at: Option<Timestamp>,
}

impl Store {
    /// Freezes every hour that is over, and of subscriptions that are ending the open hour too.
    pub async fn close_hours(
        &self,
        closing: Closing,
        now: Timestamp,
    ) -> Result<Closed, StoreError> {
        self.write(move |connection| {
            let mut closed = Closed::default();
            for record in open_records(connection, now, true)? {
                assign(connection, &record, &closing, now, &mut closed)?;
            }
            for record in open_records(connection, now, false)? {
                freeze(connection, &record, &closing, now, &mut closed)?;
            }
            Ok(closed)
        })
        .await
    }
}

fn open_records(
    connection: &Connection,
    now: Timestamp,
    unassigned: bool,
) -> Result<Vec<OpenRecord>, StoreError> {
    connection
        .prepare_cached(
            "SELECT * FROM metering_records
             WHERE state = 'open' AND hour <= ?1 AND (holder = '') = ?2 ORDER BY hour, id",
        )
        .and_then(|mut select| {
            select.query_map((ClockHour::of(now).number(), unassigned), open_record_row)?.collect()
        })
        .during("find open records")
}

/// Gives usage that waited for a subscription to the one that has turned up.
fn assign(
    connection: &Connection,
    record: &OpenRecord,
    closing: &Closing,
    now: Timestamp,
    closed: &mut Closed,
) -> Result<(), StoreError> {
    let bearers = bearers_in(connection, &record.customer, &record.product_id)?;
    let hopeless = now >= deadline(record.hour, closing.window);
    let reason = match choose(&record.customer, &bearers, None, now) {
        Ok(Choice::Holder(holder)) => {
            let first = first_hour_in(connection, Some(&holder))?.unwrap_or(record.hour);
            let key = record.key(Some(holder), record.hour.max(first));
            let (target, _) = open_record_in(connection, &key)?;
            return move_whole(connection, record, target);
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

fn move_whole(connection: &Connection, record: &OpenRecord, target: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE usage_events SET record_id = ?2 WHERE record_id = ?1")
        .and_then(|mut update| update.execute((record.id, target)))
        .during("assign usage to a subscription")?;
    connection
        .prepare_cached("UPDATE metering_records SET quantity = quantity + ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((target, record.quantity)))
        .during("assign usage to a subscription")?;
    connection
        .prepare_cached("DELETE FROM metering_records WHERE id = ?1")
        .and_then(|mut delete| delete.execute([record.id]))
        .during("assign usage to a subscription")?;
    Ok(())
}

pub(super) fn park(
    connection: &Connection,
    record: i64,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET state = 'parked', reason = ?2, settled_at_ms = ?3 WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((record, reason, millis(now))))
        .during("park a record")?;
    Ok(())
}

fn freeze(
    connection: &Connection,
    record: &OpenRecord,
    closing: &Closing,
    now: Timestamp,
    closed: &mut Closed,
) -> Result<(), StoreError> {
    let Some(holder) = &record.holder else {
        return Ok(());
    };
    let Some(bearing) = bearing_in(connection, record, holder)? else {
        return Ok(());
    };
    if !bearing.leaving && !is_over(record.hour, now, closing.grace) {
        return Ok(());
    }
    // Rows may have been carried into since they were listed.
    let held: i64 = connection
        .prepare_cached("SELECT quantity FROM metering_records WHERE id = ?1")
        .and_then(|mut select| select.query_row([record.id], |row| row.get(0)))
        .during("read a record's quantity")?;
    let parts = split(quantity(held));
    let mut reason = None;
    if parts.rest > Quantity::ZERO {
        if parts.whole == Quantity::ZERO && bearing.ended_at.is_some() {
            // No later hour of this subscription will make it whole.
            closed.parked += 1;
            return park(connection, record.id, "fraction", now);
        }
        let next = record.hour.next();
        let later = if is_over(next, now, closing.grace) { ClockHour::of(now) } else { next };
        if parts.whole == Quantity::ZERO {
            return put_off(connection, record, later);
        }
        let key = record.key(record.holder.clone(), later);
        let (target, _) = open_record_in(connection, &key)?;
        carry_in(connection, record.id, target, parts.rest.millionths())?;
        reason = Some("fraction_carried");
    }
    let state = if parts.whole == Quantity::ZERO { "accepted" } else { "ready" };
    if state == "accepted" {
        // Zero was reported: there is nothing that AWS would bill.
        reason = Some("nothing_to_send");
    } else {
        closed.frozen += 1;
    }
    let identity = wire_identity(holder, &bearing.product_code, bearing.account_id);
    connection
        .prepare_cached(
            "UPDATE metering_records SET state = :state, reason = :reason, product_code = :code,
                 customer_identifier = :identifier, account_id = :account, license_arn = :license,
                 region = :region, frozen_at_ms = :now, next_attempt_at_ms = :now, deadline_ms = :deadline
             WHERE id = :id",
        )
        .and_then(|mut update| {
            update.execute(named_params! {
                ":id": record.id,
                ":state": state,
                ":reason": reason,
                ":code": identity.product_code.as_ref().map(ProductCode::as_str),
                ":identifier": identity.customer_identifier.as_ref().map(CustomerIdentifier::as_str),
                ":account": identity.account_id.as_ref().map(AccountId::as_str),
                ":license": identity.license_arn.as_ref().map(LicenseArn::as_str),
                ":region": closing.region,
                ":now": millis(now),
                ":deadline": millis(final_deadline(record.hour, closing.window, bearing.ended_at)),
            })
        })
        .during("freeze a record")?;
    Ok(())
}

/// Less than a unit waits in a later hour, as the same record, for what makes it whole.
fn put_off(
    connection: &Connection,
    record: &OpenRecord,
    later: ClockHour,
) -> Result<(), StoreError> {
    let held: i64 = connection
        .prepare_cached("SELECT quantity FROM metering_records WHERE id = ?1")
        .and_then(|mut select| select.query_row([record.id], |row| row.get(0)))
        .during("read a record's quantity")?;
    match existing_record_in(connection, &record.key(record.holder.clone(), later))? {
        None => {
            connection
                .prepare_cached(
                    "UPDATE metering_records SET hour = ?2, carried_in = quantity WHERE id = ?1",
                )
                .and_then(|mut update| update.execute((record.id, later.number())))
                .during("put a fraction off")?;
        }
        Some((target, true)) => {
            let moving = OpenRecord { quantity: held, ..record.clone() };
            move_whole(connection, &moving, target)?;
        }
        Some((_, false)) => return put_off(connection, record, later.next()),
    }
    Ok(())
}

fn bearing_in(
    connection: &Connection,
    record: &OpenRecord,
    holder: &Holder,
) -> Result<Option<Bearing>, StoreError> {
    // Of several subscriptions under one holder, one that lives decides.
    connection
        .prepare_cached(
            "SELECT p.code, s.account_id, s.status = 'ending' OR s.ended_at_ms IS NOT NULL, s.ended_at_ms
             FROM subscriptions s JOIN products p ON p.id = s.product_id
             WHERE s.product_id = ?1 AND s.holder = ?2
             ORDER BY s.ended_at_ms IS NOT NULL, s.status = 'ending', s.ended_at_ms DESC LIMIT 1",
        )
        .and_then(|mut select| {
            select
                .query_row((record.product_id.as_str(), holder.to_string()), |row| {
                    Ok(Bearing {
                        product_code: ProductCode::new(row.get::<_, String>(0)?),
                        account_id: row.get::<_, Option<String>>(1)?.map(AccountId::new),
                        leaving: row.get(2)?,
                        ended_at: optional_timestamp(row.get(3)?),
                    })
                })
                .optional()
        })
        .during("find what bears a record")
}
