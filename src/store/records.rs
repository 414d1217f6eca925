//! Metering records: the row for a holder, dimension and hour, and how quantities move between rows.

use rusqlite::{Connection, OptionalExtension};

use super::routes::Bears;
use super::{During, StoreError};
use crate::domain::{ClockHour, CustomerId, DimensionKey, Holder, ProductId};

/// What names a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordKey {
    pub(super) bears: Bears,
    pub(super) customer: CustomerId,
    pub(super) hour: ClockHour,
}

/// The open record for a key, made if there is none. An hour that is frozen is passed over for the next one
/// that is not.
pub(super) fn open_record_in(
    connection: &Connection,
    key: &RecordKey,
) -> Result<(i64, ClockHour), StoreError> {
    let mut hour = key.hour;
    loop {
        match find_in(connection, key, hour)? {
            Some((id, open)) if open => return Ok((id, hour)),
            Some(_) => hour = hour.next(),
            None => return Ok((insert_in(connection, key, hour)?, hour)),
        }
    }
}

fn holder_text(holder: Option<&Holder>) -> String {
    holder.map(Holder::to_string).unwrap_or_default()
}

/// The record for exactly this key, if there is one, and whether it is open.
pub(super) fn existing_record_in(
    connection: &Connection,
    key: &RecordKey,
) -> Result<Option<(i64, bool)>, StoreError> {
    find_in(connection, key, key.hour)
}

fn find_in(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Option<(i64, bool)>, StoreError> {
    let holder = holder_text(key.bears.holder.as_ref());
    // A holder's hour is one record at AWS whoever the customer is by now.
    let statement = if holder.is_empty() {
        "SELECT id, state = 'open' FROM metering_records
         WHERE product_id = ?1 AND customer_id = ?2 AND holder = ?3 AND dimension = ?4 AND hour = ?5"
    } else {
        "SELECT id, state = 'open' FROM metering_records
         WHERE product_id = ?1 AND ?2 <> '' AND holder = ?3 AND dimension = ?4 AND hour = ?5
         ORDER BY state = 'open' LIMIT 1"
    };
    connection
        .prepare_cached(statement)
        .and_then(|mut select| {
            select
                .query_row(
                    (
                        key.bears.product_id.as_str(),
                        key.customer.as_str(),
                        &holder,
                        key.bears.dimension.as_str(),
                        hour.number(),
                    ),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })
        .during("find a metering record")
}

fn insert_in(connection: &Connection, key: &RecordKey, hour: ClockHour) -> Result<i64, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO metering_records (product_id, customer_id, holder, dimension, hour, quantity, state)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, 'open')",
        )
        .and_then(|mut insert| {
            insert.insert((
                key.bears.product_id.as_str(),
                key.customer.as_str(),
                holder_text(key.bears.holder.as_ref()),
                key.bears.dimension.as_str(),
                hour.number(),
            ))
        })
        .during("open a metering record")
}

/// An open record, as closing sees it.
#[derive(Clone, Debug)]
pub(super) struct OpenRecord {
    pub(super) id: i64,
    pub(super) product_id: ProductId,
    pub(super) customer: CustomerId,
    pub(super) holder: Option<Holder>,
    pub(super) dimension: DimensionKey,
    pub(super) hour: ClockHour,
    pub(super) quantity: i64,
}

impl OpenRecord {
    /// The key of the same usage in another hour, or under another holder.
    pub(super) fn key(&self, holder: Option<Holder>, hour: ClockHour) -> RecordKey {
        RecordKey {
            bears: Bears {
                product_id: self.product_id.clone(),
                dimension: self.dimension.clone(),
                holder,
            },
            customer: self.customer.clone(),
            hour,
        }
    }
}

pub(super) fn open_record_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<OpenRecord> {
    let holder: String = row.get("holder")?;
    Ok(OpenRecord {
        id: row.get("id")?,
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        customer: CustomerId::new(row.get::<_, String>("customer_id")?),
        holder: Holder::parse(&holder),
        dimension: DimensionKey::new(row.get::<_, String>("dimension")?),
        hour: ClockHour::from_number(row.get("hour")?),
        quantity: row.get("quantity")?,
    })
}

/// Moves a part of an open record to another one; the sum of both stays what it is.
pub(super) fn carry_in(
    connection: &Connection,
    from: i64,
    into: i64,
    quantity: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE metering_records SET quantity = quantity - ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((from, quantity)))
        .during("carry a quantity")?;
    connection
        .prepare_cached(
            "UPDATE metering_records SET quantity = quantity + ?2, carried_in = carried_in + ?2
             WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((into, quantity)))
        .during("carry a quantity")?;
    Ok(())
}
