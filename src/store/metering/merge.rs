//! The metering records of two customers who turn out to be one. Usage of one hour that was reported under both ids
//! may be on its way in both forms, by product code and by licence; AWS would bill that hour twice.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::catalogue_view::licensed_from_in;
use super::open_records::{OpenRecord, open_record, open_record_row};
use super::record_rows::record_in;
use super::resolve::carry_forward_in;
use super::roll_forward::{move_whole, roll_forward_in};
use super::side_records::park_unknown_in;
use super::slots::{OtherIdentityRecord, RecordKey, Slot, records_under_other_identity, slot_in};
use super::unknown_hours::unknown_hours_in;
use crate::domain::ledger::{ParkReason, is_licensed};
use crate::domain::{CustomerId, Holder, ProductId};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// The note of a frozen record, not sent yet, that is carried on to a later hour.
const CARRIED: &str = "its hour is metered in the other form: two customers turned out to be one";

/// Makes the records of `from` those of `into`, no hour in both forms.
pub(crate) fn join_records_in(
    connection: &Connection,
    from: &CustomerId,
    into: &CustomerId,
    now: Timestamp,
) -> Result<(), StoreError> {
    for record in select(connection, WAITING, from)? {
        let key = RecordKey { customer: into.clone(), ..record.key(None, record.hour) };
        match slot_in(connection, &key, record.hour)? {
            Slot::Free => {}
            Slot::Open(kept) => move_whole(connection, record.id, kept)?,
            Slot::Taken | Slot::Conflict => {
                roll_forward_in(connection, &record, &key, "hour_frozen", now)?;
            }
        }
    }
    // What waited under both ids and was parked under this one keeps it; it goes on leading there as an alias.
    connection
        .prepare_cached(
            "UPDATE metering_records SET customer_id = ?2 WHERE customer_id = ?1 AND NOT EXISTS (
                 SELECT 1 FROM metering_records other WHERE other.customer_id = ?2
                   AND other.product_id = metering_records.product_id AND other.dimension = metering_records.dimension
                   AND other.hour = metering_records.hour AND other.holder = metering_records.holder
                   AND other.beside = metering_records.beside)",
        )
        .and_then(|mut update| update.post((from.as_str(), into.as_str())))
        .during("move a customer's records")?;
    for record in select(connection, OPEN, into)? {
        if is_still_open(connection, &record)? {
            merge_open(connection, &record, now)?;
        }
    }
    for record in select(connection, UNSENT, into)? {
        merge_unsent(connection, &record, now)?;
    }
    Ok(())
}

/// The statement that finds usage that waits for a subscription.
const WAITING: &str = concat!(
    "SELECT ",
    open_record!(),
    " FROM metering_records r WHERE customer_id = ?1 AND state = 'open' AND holder = '' AND beside = 0 ORDER BY hour, id"
);
const OPEN: &str = concat!(
    "SELECT ",
    open_record!(),
    " FROM metering_records r WHERE customer_id = ?1 AND state = 'open' AND holder <> '' AND beside = 0 ORDER BY hour, id"
);
/// The statement that finds frozen records of which AWS has surely not heard.
const UNSENT: &str = concat!(
    "SELECT ",
    open_record!(),
    " FROM metering_records r WHERE customer_id = ?1 AND state = 'ready' AND attempts = 0 ORDER BY hour, id"
);

fn select(
    connection: &Connection,
    statement: &str,
    customer: &CustomerId,
) -> Result<Vec<OpenRecord>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map([customer.as_str()], open_record_row)?.collect())
        .during("find a customer's records")
}

/// Reports whether a record is still open: an earlier one of the list may have taken it in, or it was put off.
fn is_still_open(connection: &Connection, record: &OpenRecord) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT 1 FROM metering_records WHERE id = ?1 AND state = 'open' AND hour = ?2",
        )
        .and_then(|mut select| select.exists((record.id, record.hour.number())))
        .during("read a record")
}

/// Joins the open records of an hour, in the form that usage of that hour is metered in; where one is frozen, the
/// other goes to the next hour that is free.
fn merge_open(
    connection: &Connection,
    record: &OpenRecord,
    now: Timestamp,
) -> Result<(), StoreError> {
    let others = other_identities_of(connection, record)?;
    if others.iter().any(|other| other.state != "open") {
        let later = record.key(record.holder.clone(), record.hour.next());
        roll_forward_in(connection, record, &later, "hour_frozen", now)?;
        return Ok(());
    }
    match best_of(connection, record, &others)? {
        Some(best) => move_whole(connection, record.id, best),
        None => Ok(()),
    }
}

/// Carries a frozen record forward that was not sent yet, since it never changes. Where AWS has heard of both
/// there is nothing left to do: each bears usage of its own, and what is billed is what was reported.
fn merge_unsent(
    connection: &Connection,
    record: &OpenRecord,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut others = other_identities_of(connection, record)?;
    others.retain(OtherIdentityRecord::is_sent);
    let heard_of = others.iter().any(|other| other.tried);
    if !heard_of && best_of(connection, record, &others)?.is_none() {
        return Ok(());
    }
    if unknown_hours_in(connection)?.holds(record.hour) {
        return park_unknown_in(connection, record.id, ParkReason::Restored, now);
    }
    let Some(row) = record_in(connection, record.id)? else { return Ok(()) };
    let Some(holder) = record.holder.clone() else { return Ok(()) };
    carry_forward_in(connection, record.id, &row, holder, CARRIED, now)
}

fn other_identities_of(
    connection: &Connection,
    record: &OpenRecord,
) -> Result<Vec<OtherIdentityRecord>, StoreError> {
    records_under_other_identity(
        connection,
        &record.key(record.holder.clone(), record.hour),
        record.hour,
    )
}

/// Finds the rival that bears the hour rather than the record: as usage is routed, by what lives before what has ended,
/// then in the form that the product is metered in by then.
fn best_of(
    connection: &Connection,
    record: &OpenRecord,
    others: &[OtherIdentityRecord],
) -> Result<Option<i64>, StoreError> {
    let licensed = is_licensed(record.hour, licensed_from_in(connection, &record.product_id)?);
    let worth = |holder: &Holder, id: i64| {
        let live = is_live(connection, &record.product_id, holder)?;
        Ok::<_, StoreError>((live, holder.is_legacy() != licensed, Reverse(id)))
    };
    let Some(holder) = &record.holder else { return Ok(None) };
    let ours = worth(holder, record.id)?;
    let mut best = None;
    for other in others {
        let Some(holder) = &other.holder else { continue };
        best = best.max(Some(worth(holder, other.id)?));
    }
    Ok(best.filter(|best| *best > ours).map(|(_, _, Reverse(id))| id))
}

fn is_live(
    connection: &Connection,
    product: &ProductId,
    holder: &Holder,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT 1 FROM subscriptions WHERE product_id = ?1 AND holder = ?2
               AND status IN ('active', 'trialing', 'ending')",
        )
        .and_then(|mut select| select.exists((product.as_str(), holder.to_string())))
        .during("see what is live")
}
