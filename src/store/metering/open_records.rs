//! Open records: reading them, splitting them by tags, and moving quantities between them.

use super::slots::{MeteringTarget, RecordKey};
use crate::domain::allocation::{Allocation, Tags};
use crate::domain::{ClockHour, CustomerId, DimensionKey, Holder, ProductId};
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, StoreError};

/// An open record, as closing sees it.
#[derive(Clone, Debug)]
pub(crate) struct OpenRecord {
    pub(crate) id: i64,
    pub(crate) product_id: ProductId,
    pub(crate) customer: CustomerId,
    pub(crate) holder: Option<Holder>,
    pub(crate) dimension: DimensionKey,
    pub(crate) hour: ClockHour,
    pub(crate) quantity: i64,
    pub(crate) tagged: bool,
}

impl OpenRecord {
    /// Returns the key of the same usage in another hour, or under another holder.
    pub(crate) fn key(&self, holder: Option<Holder>, hour: ClockHour) -> RecordKey {
        RecordKey {
            target: MeteringTarget {
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
pub(crate) use open_record;

pub(crate) fn open_record_row(row: &sql::Row<'_>) -> sql::Result<OpenRecord> {
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
pub(crate) fn carry_into(
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
        .and_then(|mut update| update.post((record, quantity)))
        .during("carry a quantity")?;
    for allocation in tagged {
        let tags = tags_text(&allocation.tags)?;
        add_tagged_in(connection, record, &tags, allocation.quantity.millionths())?;
    }
    Ok(())
}

/// Writes tags as the database keeps them: the same tags are the same text.
pub(crate) fn tags_text(tags: &Tags) -> Result<String, StoreError> {
    serde_json::to_string(tags)
        .map_err(|error| StoreError::Corrupt { what: "tags", detail: error.to_string() })
}

pub(crate) fn add_tagged_in(
    connection: &Connection,
    record: i64,
    tags: &str,
    quantity: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO metering_tags (record_id, tags, quantity) VALUES (?1, ?2, ?3)
             ON CONFLICT (record_id, tags) DO UPDATE SET quantity = metering_tags.quantity + excluded.quantity",
        )
        .and_then(|mut upsert| upsert.post((record, tags, quantity)))
        .during("split a record by tags")?;
    connection
        .prepare_cached("UPDATE metering_records SET tagged = 1 WHERE id = ?1 AND tagged = 0")
        .and_then(|mut update| update.post([record]))
        .during("split a record by tags")?;
    Ok(())
}

/// Reads the split of an open record by tags.
pub(crate) fn tagged_in(
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
            Ok(Allocation { quantity: crate::store::base::columns::quantity(held), tags })
        })
        .collect()
}

/// Takes the split by tags off a record that freezes: its allocations say it from then on.
pub(crate) fn take_tagged_in(
    connection: &Connection,
    record: i64,
) -> Result<Vec<Allocation>, StoreError> {
    let tagged = tagged_in(connection, record)?;
    if !tagged.is_empty() {
        connection
            .prepare_cached("DELETE FROM metering_tags WHERE record_id = ?1")
            .and_then(|mut delete| delete.execute([record]))
            .during("take a record's tags")?;
    }
    Ok(tagged)
}

/// Takes back records that nothing was added to.
pub(crate) fn delete_record_in(connection: &Connection, id: i64) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM metering_tags WHERE record_id = ?1",
        "DELETE FROM metering_records WHERE id = ?1",
    ] {
        connection
            .prepare_cached(statement)
            .and_then(|mut delete| delete.post([id]))
            .during("delete an empty record")?;
    }
    Ok(())
}
