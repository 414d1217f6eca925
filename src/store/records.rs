//! Metering records: the row for a holder, dimension and hour, and how quantities move between open rows.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::beside::record_beside_in;
use super::routes::Bears;
use super::stretches::{RESTORED, unknown_hours_in};
use super::{During, StoreError};
use crate::domain::allocation::{Allocation, Tags};
use crate::domain::ledger::{DUPLICATE_CONFLICT, Tenure};
use crate::domain::{ClockHour, CustomerId, DimensionKey, Holder, ProductId};

/// What names a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordKey {
    pub(super) bears: Bears,
    pub(super) customer: CustomerId,
    pub(super) hour: ClockHour,
}

/// An open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: i64,
    /// Its hour, the one asked for or a later one.
    pub(super) hour: ClockHour,
    /// Whether it was made just now.
    pub(super) new: bool,
}

/// What stands where a record would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A record that takes more.
    Open(i64),
    /// A frozen one, or one that meters the customer's hour in the other form.
    Taken,
    /// One that AWS refused since something else than this ledger had metered the hour.
    Conflict,
    /// Nothing.
    Free,
}

/// The open record for a key, made if there is none. An hour that is frozen is passed over for the next one
/// that is not, and so is an hour that the customer is metered for in the other form. But usage that AWS may have been
/// told of before stays in its hour: a record beside the frozen one bears it, which a person decides on.
pub(super) fn open_record_in(
    connection: &Connection,
    key: &RecordKey,
) -> Result<Found, StoreError> {
    let why = match slot_in(connection, key, key.hour)? {
        Slot::Conflict => Some(DUPLICATE_CONFLICT),
        Slot::Taken if unknown_hours_in(connection)?.hold(key.hour) => Some(RESTORED),
        _ => None,
    };
    match why {
        Some(why) => record_beside_in(connection, key, why),
        None => later_record_in(connection, key),
    }
}

/// The open record for a key or for the first hour after it that takes more.
pub(super) fn later_record_in(
    connection: &Connection,
    key: &RecordKey,
) -> Result<Found, StoreError> {
    let mut hour = key.hour;
    loop {
        match slot_in(connection, key, hour)? {
            Slot::Open(id) => return Ok(Found { id, hour, new: false }),
            Slot::Free => {
                return Ok(Found { id: insert_in(connection, key, hour)?, hour, new: true });
            }
            Slot::Taken | Slot::Conflict => hour = hour.next(),
        }
    }
}

/// The hour in which [`open_record_in`] would find or make a record, if it is one that the subscription covers: none
/// where every hour until its end is frozen.
pub(super) fn hour_left_in(
    connection: &Connection,
    key: &RecordKey,
    tenure: Tenure,
) -> Result<Option<ClockHour>, StoreError> {
    let mut hour = key.hour;
    while tenure.covers(hour) {
        match slot_in(connection, key, hour)? {
            Slot::Open(_) | Slot::Free => return Ok(Some(hour)),
            // A record beside it bears what may not leave its hour.
            Slot::Conflict if hour == key.hour => return Ok(Some(hour)),
            Slot::Taken if hour == key.hour && unknown_hours_in(connection)?.hold(hour) => {
                return Ok(Some(hour));
            }
            Slot::Taken | Slot::Conflict => hour = hour.next(),
        }
    }
    Ok(None)
}

/// What stands in an hour of a key.
pub(super) fn slot_in(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Slot, StoreError> {
    Ok(match find_in(connection, key, hour)? {
        Some(slot) => slot,
        None if !in_other_form(connection, key, hour)?.is_empty() => Slot::Taken,
        None => Slot::Free,
    })
}

pub(super) fn holder_text(holder: Option<&Holder>) -> String {
    holder.map(Holder::to_string).unwrap_or_default()
}

fn find_in(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Option<Slot>, StoreError> {
    let bears = &key.bears;
    let found = match &bears.holder {
        // A holder's hour is one record at AWS whoever the customer is by now.
        Some(holder) => connection
            .prepare_cached(
                "SELECT id, state, reason FROM metering_records
                 WHERE holder = ?1 AND holder <> '' AND product_id = ?2 AND dimension = ?3 AND hour = ?4
                   AND beside = 0",
            )
            .and_then(|mut select| {
                let ids = (bears.product_id.as_str(), bears.dimension.as_str());
                select
                    .query_row((holder.to_string(), ids.0, ids.1, hour.number()), slot_row)
                    .optional()
            }),
        None => connection
            .prepare_cached(
                "SELECT id, state, reason FROM metering_records
                 WHERE customer_id = ?1 AND product_id = ?2 AND dimension = ?3 AND hour = ?4 AND holder = ''
                   AND beside = 0",
            )
            .and_then(|mut select| {
                let ids = (key.customer.as_str(), bears.product_id.as_str());
                select
                    .query_row((ids.0, ids.1, bears.dimension.as_str(), hour.number()), slot_row)
                    .optional()
            }),
    };
    found.during("find a metering record")
}

fn slot_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Slot> {
    Ok(match row.get_ref(1)?.as_str()? {
        "open" => Slot::Open(row.get(0)?),
        "parked" if row.get_ref(2)?.as_str_or_null()? == Some(DUPLICATE_CONFLICT) => Slot::Conflict,
        _ => Slot::Taken,
    })
}

/// Whether a record's holder is another than this one, where one of both is legacy.
macro_rules! other_form {
    ($theirs:literal, $ours:literal) => {
        concat!(
            $theirs,
            " <> '' AND ",
            $theirs,
            " <> ",
            $ours,
            " AND (substr(",
            $theirs,
            ", 1, 8) <> 'license:' OR substr(",
            $ours,
            ", 1, 8) <> 'license:')"
        )
    };
}
pub(super) use other_form;

/// A record of the same usage in the other form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rival {
    pub(super) id: i64,
    pub(super) holder: Option<Holder>,
    pub(super) state: String,
    /// Whether it was ever sent.
    pub(super) tried: bool,
}

impl Rival {
    /// Whether it was sent, or will be.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "sending" | "accepted")
    }
}

/// The records that the customer has for this hour of the dimension under another holder, where one of both is
/// legacy: metering it by product code and by licence bills it twice.
pub(super) fn in_other_form(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Vec<Rival>, StoreError> {
    let Some(holder) = &key.bears.holder else {
        return Ok(Vec::new());
    };
    connection
        .prepare_cached(concat!(
            "SELECT id, holder, state, attempts > 0 FROM metering_records
             WHERE customer_id = :customer AND product_id = :product AND dimension = :dimension AND hour = :hour
               AND beside = 0 AND ",
            other_form!("holder", ":holder"),
            " ORDER BY id"
        ))
        .and_then(|mut select| {
            let values = named_params! {
                ":customer": key.customer.as_str(),
                ":product": key.bears.product_id.as_str(),
                ":dimension": key.bears.dimension.as_str(),
                ":hour": hour.number(),
                ":holder": holder.to_string(),
            };
            select
                .query_map(values, |row| {
                    Ok(Rival {
                        id: row.get(0)?,
                        holder: Holder::parse(&row.get::<_, String>(1)?),
                        state: row.get(2)?,
                        tried: row.get(3)?,
                    })
                })?
                .collect()
        })
        .during("look for the other form")
}

/// Whether a product has buyers by licence and buyers by product code.
pub(super) fn is_known_in_both_forms(
    connection: &Connection,
    product: &ProductId,
) -> Result<bool, StoreError> {
    // The bounds are those of the licences' holders, so that the index answers.
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM subscriptions
                     WHERE product_id = ?1 AND holder >= 'license:' AND holder < 'license;')
                 AND (EXISTS (SELECT 1 FROM subscriptions
                     WHERE product_id = ?1 AND holder > '' AND holder < 'license:')
                   OR EXISTS (SELECT 1 FROM subscriptions WHERE product_id = ?1 AND holder >= 'license;'))",
        )
        .and_then(|mut select| select.query_row([product.as_str()], |row| row.get(0)))
        .during("look for the other form")
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

/// Takes back records that nothing was added to.
pub(super) fn delete_record_in(connection: &Connection, id: i64) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM metering_tags WHERE record_id = ?1",
        "DELETE FROM metering_records WHERE id = ?1",
    ] {
        connection
            .prepare_cached(statement)
            .and_then(|mut delete| delete.execute([id]))
            .during("delete an empty record")?;
    }
    Ok(())
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
    pub(super) tagged: bool,
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

/// The columns of [`open_record_row`], before any others. An hour is many rows, and to look for a column's name in
/// each of them costs as much as to find the row.
macro_rules! open_record {
    () => {
        "r.id, r.product_id, r.customer_id, r.holder, r.dimension, r.hour, r.quantity, r.tagged"
    };
}
pub(super) use open_record;

pub(super) fn open_record_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<OpenRecord> {
    Ok(OpenRecord {
        id: row.get(0)?,
        product_id: ProductId::new(row.get::<_, String>(1)?),
        customer: CustomerId::new(row.get::<_, String>(2)?),
        holder: Holder::parse(row.get_ref(3)?.as_str()?),
        dimension: DimensionKey::new(row.get::<_, String>(4)?),
        hour: ClockHour::from_number(row.get(5)?),
        quantity: row.get(6)?,
        tagged: row.get(7)?,
    })
}

/// Adds to an open record what another one does not bear any more.
pub(super) fn carry_into(
    connection: &Connection,
    record: i64,
    quantity: i64,
    tagged: &[Allocation],
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET quantity = quantity + ?2, carried_in = carried_in + ?2
             WHERE id = ?1",
        )
        .and_then(|mut update| update.execute((record, quantity)))
        .during("carry a quantity")?;
    for allocation in tagged {
        let tags = tags_text(&allocation.tags)?;
        add_tagged_in(connection, record, &tags, allocation.quantity.millionths())?;
    }
    Ok(())
}

/// Tags as the database keeps them: the same tags are the same text.
pub(super) fn tags_text(tags: &Tags) -> Result<String, StoreError> {
    serde_json::to_string(tags)
        .map_err(|error| StoreError::Corrupt { what: "tags", detail: error.to_string() })
}

pub(super) fn add_tagged_in(
    connection: &Connection,
    record: i64,
    tags: &str,
    quantity: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO metering_tags (record_id, tags, quantity) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
        )
        .and_then(|mut upsert| upsert.execute((record, tags, quantity)))
        .during("split a record by tags")?;
    connection
        .prepare_cached("UPDATE metering_records SET tagged = 1 WHERE id = ?1 AND tagged = 0")
        .and_then(|mut update| update.execute([record]))
        .during("split a record by tags")?;
    Ok(())
}

/// How an open record splits by tags.
pub(super) fn tagged_in(
    connection: &Connection,
    record: i64,
) -> Result<Vec<Allocation>, StoreError> {
    let rows: Vec<(String, i64)> = connection
        .prepare_cached(
            "SELECT tags, quantity FROM metering_tags WHERE record_id = ?1 ORDER BY tags",
        )
        .and_then(|mut select| {
            select.query_map([record], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .during("read a record's tags")?;
    rows.into_iter()
        .map(|(tags, held)| {
            let tags = serde_json::from_str(&tags)
                .map_err(|error| StoreError::Corrupt { what: "tags", detail: error.to_string() })?;
            Ok(Allocation { quantity: super::usage::quantity(held), tags })
        })
        .collect()
}
