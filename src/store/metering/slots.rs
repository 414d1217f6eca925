//! Record keys, and what stands in an hour of one: a record that takes more, a frozen one, or nothing.

use crate::domain::ledger::ParkReason;
use crate::domain::{ClockHour, CustomerId, DimensionKey, Holder, ProductId};
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordKey {
    pub(crate) target: MeteringTarget,
    pub(crate) customer: CustomerId,
    pub(crate) hour: ClockHour,
}

/// An open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundRecord {
    pub(crate) id: i64,
    /// Its hour, the one asked for or a later one.
    pub(crate) hour: ClockHour,
    /// True if it was made just now.
    pub(crate) new: bool,
}

/// The state of a record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// An open record, which takes more.
    Open(i64),
    /// A frozen one, or one that meters the customer's hour in the other form.
    Taken,
    /// A record that AWS refused since something else than this ledger had metered the hour.
    Conflict,
    /// No record.
    Free,
}

/// Finds the state of a key's place in an hour.
pub(crate) fn slot_in(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Slot, StoreError> {
    Ok(match find_in(connection, key, hour)? {
        Some(slot) => slot,
        None if !records_under_other_identity(connection, key, hour)?.is_empty() => Slot::Taken,
        None => Slot::Free,
    })
}

pub(crate) fn holder_text(holder: Option<&Holder>) -> String {
    holder.map(Holder::to_string).unwrap_or_default()
}

/// Reports whether a record's holder is another than this one, where one of both is legacy.
macro_rules! other_identity {
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
pub(crate) use other_identity;

// A holder's hour is one record at AWS whoever the customer is by now.
const OF_HOLDER: &str = "SELECT id, state, reason FROM metering_records
     WHERE holder = ?1 AND holder <> '' AND product_id = ?2 AND dimension = ?3 AND hour = ?4 AND beside = 0";
const OF_NO_HOLDER: &str = "SELECT id, state, reason FROM metering_records
     WHERE customer_id = ?1 AND product_id = ?2 AND dimension = ?3 AND hour = ?4 AND holder = '' AND beside = 0";
const UNDER_OTHER_IDENTITY: &str = concat!(
    "SELECT id, holder, state, attempts > 0 FROM metering_records
     WHERE customer_id = ?1 AND product_id = ?2 AND dimension = ?3 AND hour = ?4 AND beside = 0 AND ",
    other_identity!("holder", "?5"),
    " ORDER BY id"
);

/// Asks ahead for what [`slot_in`] reads.
pub(crate) fn ask_slot(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<(), StoreError> {
    let asked = || {
        let target = &key.target;
        let (product, dimension) = (target.product_id.as_str(), target.dimension.as_str());
        let customer = key.customer.as_str();
        let Some(holder) = &target.holder else {
            let place = (customer, product, dimension, hour.number());
            return connection.ask_ahead(OF_NO_HOLDER, &place);
        };
        let holder = holder.to_string();
        connection.ask_ahead(OF_HOLDER, &(&*holder, product, dimension, hour.number()))?;
        let place = (customer, product, dimension, hour.number(), &*holder);
        connection.ask_ahead(UNDER_OTHER_IDENTITY, &place)
    };
    asked().during("find a metering record")
}

fn find_in(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Option<Slot>, StoreError> {
    let target = &key.target;
    let found = match &target.holder {
        Some(holder) => connection.prepare_cached(OF_HOLDER).and_then(|mut select| {
            let ids = (target.product_id.as_str(), target.dimension.as_str());
            select.query_row((holder.to_string(), ids.0, ids.1, hour.number()), slot_row).optional()
        }),
        None => connection.prepare_cached(OF_NO_HOLDER).and_then(|mut select| {
            let ids = (key.customer.as_str(), target.product_id.as_str());
            select
                .query_row((ids.0, ids.1, target.dimension.as_str(), hour.number()), slot_row)
                .optional()
        }),
    };
    found.during("find a metering record")
}

fn slot_row(row: &sql::Row<'_>) -> sql::Result<Slot> {
    Ok(match row.get_ref(1)?.as_str()? {
        "open" => Slot::Open(row.get(0)?),
        "parked"
            if row.get_ref(2)?.as_str_or_null()?
                == Some(ParkReason::DuplicateConflict.as_str()) =>
        {
            Slot::Conflict
        }
        _ => Slot::Taken,
    })
}

/// A record of the same usage in the other form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherIdentityRecord {
    pub(crate) id: i64,
    pub(crate) holder: Option<Holder>,
    pub(crate) state: String,
    /// True if it was ever sent.
    pub(crate) tried: bool,
}

impl OtherIdentityRecord {
    /// Reports whether it was sent, or will be.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "sending" | "accepted")
    }
}

/// Returns the customer's records for this hour of the dimension under another holder, where one of both is
/// legacy: metering it by product code and by licence bills it twice.
pub(crate) fn records_under_other_identity(
    connection: &Connection,
    key: &RecordKey,
    hour: ClockHour,
) -> Result<Vec<OtherIdentityRecord>, StoreError> {
    let Some(holder) = &key.target.holder else {
        return Ok(Vec::new());
    };
    connection
        .prepare_cached(UNDER_OTHER_IDENTITY)
        .and_then(|mut select| {
            let (product, dimension) = (&key.target.product_id, &key.target.dimension);
            let place = (key.customer.as_str(), product.as_str(), dimension.as_str());
            let values = (place.0, place.1, place.2, hour.number(), holder.to_string());
            select
                .query_map(values, |row| {
                    Ok(OtherIdentityRecord {
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

/// Reports whether a product has buyers by licence and buyers by product code.
pub(crate) fn has_both_identities(
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

/// The target that usage is metered to: a product's dimension, under a holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MeteringTarget {
    pub(crate) product_id: ProductId,
    pub(crate) dimension: DimensionKey,
    /// The holder; none while no subscription has turned up.
    pub(crate) holder: Option<Holder>,
}
