//! Records beside the one that AWS deduplicates by: usage that may not leave its hour and cannot be sent with it. They
//! are never sent; a person decides on them.

use jiff::Timestamp;

use super::open_records::{add_tagged_in, delete_record_in};
use super::parking::park;
use super::record_rows::record_in;
use super::slots::{FoundRecord, MeteringTarget, RecordKey, holder_text};
use super::unknown_hours::note_stretch_in;
use crate::domain::ledger::{ParkReason, StretchCause, UnknownStretch};
use crate::domain::{ClockHour, Holder};
use crate::store::base::columns::millis;
use crate::store::engine::sql::{self, Connection, OptionalExtension, named_params};
use crate::store::{During, StoreError};

/// Finds the open record beside those of a key's hour, or makes it. Closing parks it.
pub(crate) fn record_beside_in(
    connection: &Connection,
    key: &RecordKey,
    why: ParkReason,
) -> Result<FoundRecord, StoreError> {
    let (target, hour) = (&key.target, key.hour);
    let holder = holder_text(target.holder.as_ref());
    let (product, dimension) = (target.product_id.as_str(), target.dimension.as_str());
    let open: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM metering_records
             WHERE customer_id = :customer AND product_id = :product AND dimension = :dimension AND hour = :hour
               AND holder = :holder AND beside > 0 AND state = 'open' AND reason = :why",
        )
        .and_then(|mut select| {
            let values = named_params! {
                ":customer": key.customer.as_str(), ":product": product, ":dimension": dimension,
                ":hour": hour.number(), ":holder": holder, ":why": why.as_str(),
            };
            select.query_row(values, |row| row.get(0)).optional()
        })
        .during("find a record beside another")?;
    if let Some(id) = open {
        return Ok(FoundRecord { id, hour, new: false });
    }
    // The holder's records may have another customer's id from before two became one; each half has its index.
    let id = connection
        .prepare_cached(
            "INSERT INTO metering_records
                 (product_id, customer_id, holder, dimension, hour, quantity, state, reason, beside)
             VALUES (:product, :customer, :holder, :dimension, :hour, 0, 'open', :why, 1 + greatest(
                 (SELECT coalesce(max(beside), 0) FROM metering_records
                  WHERE holder = :holder AND holder <> '' AND product_id = :product AND dimension = :dimension
                    AND hour = :hour),
                 (SELECT coalesce(max(beside), 0) FROM metering_records
                  WHERE customer_id = :customer AND product_id = :product AND dimension = :dimension
                    AND hour = :hour AND holder = :holder)))
             RETURNING id",
        )
        .and_then(|mut insert| {
            let values = named_params! {
                ":customer": key.customer.as_str(), ":product": product, ":dimension": dimension,
                ":hour": hour.number(), ":holder": holder, ":why": why.as_str(),
            };
            insert.query_row(values, |row| row.get(0))
        })
        .during("open a record beside another")?;
    Ok(FoundRecord { id, hour, new: true })
}

/// Parks the records that were put beside others, each for the reason that it was put there.
pub(crate) fn park_beside_in(connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
    // Without a holder it may still find one, and then its own hour.
    let open: Vec<(i64, String)> = connection
        .prepare_cached(
            "SELECT id, reason FROM metering_records
             WHERE state = 'open' AND beside > 0 AND holder <> '' ORDER BY id",
        )
        .and_then(|mut select| {
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .during("find records beside others")?;
    for (record, why) in &open {
        // None is put there for a reason that this version does not know.
        let why = ParkReason::parse(why).unwrap_or(ParkReason::Restored);
        park_unknown_in(connection, *record, why, now)?;
    }
    Ok(open.len())
}

/// Parks a record that may not leave its hour and cannot be sent in it, with words for whoever decides.
pub(crate) fn park_unknown_in(
    connection: &Connection,
    record: i64,
    why: ParkReason,
    now: Timestamp,
) -> Result<(), StoreError> {
    let words = if why == ParkReason::DuplicateConflict {
        "reported after AWS had refused its hour's record, which it had metered by something that this ledger never sent"
    } else {
        "AWS may have been told of it before a backup was put back, and takes no more for its hour"
    };
    let words = format!("{words}; carry it forward only if AWS has not billed it");
    connection
        .prepare_cached("UPDATE metering_records SET last_error = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((record, words)))
        .during("park a record")?;
    park(connection, record, why, now)
}

/// An event that was moved out of an hour, and may come back.
struct MovedEvent {
    rowid: i64,
    record: i64,
    billed: i64,
    tags: Option<String>,
}

/// Brings usage of an hour in conflict back beside the hour's record: what was moved on because the hour was frozen,
/// while nobody knew yet that AWS would refuse it, and is not frozen elsewhere.
pub(crate) fn bring_back_in(connection: &Connection, key: &RecordKey) -> Result<(), StoreError> {
    let moved = moved_of(connection, key)?;
    if moved.is_empty() {
        return Ok(());
    }
    let beside = record_beside_in(connection, key, ParkReason::DuplicateConflict)?.id;
    for event in &moved {
        for (record, quantity) in [(event.record, -event.billed), (beside, event.billed)] {
            connection
                .prepare_cached(
                    "UPDATE metering_records SET quantity = quantity + ?2 WHERE id = ?1",
                )
                .and_then(|mut update| update.post((record, quantity)))
                .during("bring usage back")?;
            if let Some(tags) = &event.tags {
                add_tagged_in(connection, record, tags, quantity)?;
            }
        }
        connection
            .prepare_cached("UPDATE usage_events SET record_id = ?2, moved = NULL WHERE rowid = ?1")
            .and_then(|mut update| update.execute((event.rowid, beside)))
            .during("bring usage back")?;
    }
    for event in &moved {
        let empty = connection
            .prepare_cached(
                "SELECT 1 FROM metering_records r WHERE id = ?1 AND quantity = 0 AND carried_in = 0
                   AND NOT EXISTS (SELECT 1 FROM usage_events WHERE record_id = r.id)",
            )
            .and_then(|mut select| select.exists([event.record]))
            .during("bring usage back")?;
        if empty {
            delete_record_in(connection, event.record)?;
        }
    }
    Ok(())
}

fn moved_of(connection: &Connection, key: &RecordKey) -> Result<Vec<MovedEvent>, StoreError> {
    let target = &key.target;
    connection
        .prepare_cached(
            "SELECT u.rowid, u.record_id, u.billed, u.tags FROM metering_records r
             CROSS JOIN usage_events u ON u.record_id = r.id
             WHERE r.holder = :holder AND r.holder <> '' AND r.product_id = :product AND r.dimension = :dimension
               AND r.hour > :hour AND r.state = 'open' AND r.beside = 0
               AND u.moved = 'hour_frozen' AND u.at_ms >= :start AND u.at_ms < :end
             ORDER BY u.rowid",
        )
        .and_then(|mut select| {
            let values = named_params! {
                ":holder": holder_text(target.holder.as_ref()),
                ":product": target.product_id.as_str(),
                ":dimension": target.dimension.as_str(),
                ":hour": key.hour.number(),
                ":start": millis(key.hour.start()),
                ":end": millis(key.hour.end()),
            };
            let row = |row: &sql::Row<'_>| {
                Ok(MovedEvent {
                    rowid: row.get(0)?,
                    record: row.get(1)?,
                    billed: row.get(2)?,
                    tags: row.get(3)?,
                })
            };
            select.query_map(values, row)?.collect()
        })
        .during("find usage that was moved out of an hour")
}

/// Notes that AWS was told of a record's hour by something that the ledger never sent. Late usage of the hour joins the
/// conflict. Returns the stretch, if it was not known.
pub(crate) fn note_conflict_in(
    connection: &Connection,
    record: i64,
    now: Timestamp,
) -> Result<Option<UnknownStretch>, StoreError> {
    let Some(row) = record_in(connection, record)? else { return Ok(None) };
    let holder: String = connection
        .prepare_cached("SELECT holder FROM metering_records WHERE id = ?1")
        .and_then(|mut select| select.query_row([record], |row| row.get(0)))
        .during("read a record in conflict")?;
    let target = MeteringTarget {
        product_id: row.product_id,
        dimension: row.dimension,
        holder: Holder::parse(&holder),
    };
    bring_back_in(connection, &RecordKey { target, customer: row.customer_id, hour: row.hour })?;
    let known = connection
        .prepare_cached(
            "SELECT 1 FROM unknown_stretches WHERE through_hour >= ?1
               AND (from_hour <= ?1 OR cause <> 'duplicate_record')",
        )
        .and_then(|mut select| select.exists([row.hour.number()]))
        .during("read which hours are unknown")?;
    if known {
        return Ok(None);
    }
    let stretch = UnknownStretch {
        from: row.hour,
        until: row.hour.max(ClockHour::of(now)).next(),
        cause: StretchCause::DuplicateRecord,
        replay_until: None,
        noticed_at: now,
    };
    note_stretch_in(connection, &stretch)?;
    Ok(Some(stretch))
}
