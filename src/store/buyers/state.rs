//! A buyer's row as a look at it finds it, and as the look leaves it.

use jiff::Timestamp;

use crate::domain::BuyerKey;
use crate::store::base::columns::{millis, optional_timestamp};
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// A buyer's state in the queue when an observation is applied.
pub(crate) struct QueueState {
    id: i64,
    /// The time of the last look at it.
    pub(crate) looked_at: Option<Timestamp>,
    /// The time at which AWS last said that a legacy buyer's entitlements changed.
    pub(crate) told_at: Option<Timestamp>,
}

/// The outcome of an observation for the queue.
pub(crate) struct QueueOutcome {
    /// The time at which the question was put.
    pub(crate) observed_at: Timestamp,
    /// The time at which to ask again without being told to.
    pub(crate) next: Option<Timestamp>,
    /// True if anything changed.
    pub(crate) changed: bool,
    /// The mark that the look began with; none for a sweep, which nobody asked for.
    pub(crate) marks: Option<i64>,
}

/// Reads a buyer's state. Whoever was never marked has no row, and nothing was told of it.
pub(crate) fn queue_state_in(
    connection: &Connection,
    key: &BuyerKey,
) -> Result<Option<QueueState>, StoreError> {
    connection
        .prepare_cached(
            "SELECT b.id, b.looked_at_ms, s.entitlement_updated_at_ms FROM buyers b
             LEFT JOIN buyer_signals s ON b.kind = 'customer_identifier'
                 AND s.product_code = b.product_code AND s.customer_identifier = b.value
             WHERE b.product_code = ?1 AND b.kind = ?2 AND b.value = ?3",
        )
        .and_then(|mut select| {
            let row = |row: &sql::Row<'_>| {
                Ok(QueueState {
                    id: row.get(0)?,
                    looked_at: optional_timestamp(row.get(1)?),
                    told_at: optional_timestamp(row.get(2)?),
                })
            };
            select.query_row(words(key), row).optional()
        })
        .during("read how a buyer stands")
}

/// Records that a buyer was looked at.
pub(crate) fn record_look_in(
    connection: &Connection,
    key: &BuyerKey,
    standing: Option<&QueueState>,
    outcome: &QueueOutcome,
) -> Result<(), StoreError> {
    match (outcome.marks, standing) {
        (Some(marks), Some(standing)) => {
            record_marked_look(connection, standing.id, marks, outcome)
        }
        // A sweep that changed nothing leaves no trace, so that large products stay cheap.
        (None, _) if outcome.changed => record_swept_look(connection, key, outcome),
        _ => Ok(()),
    }
}

fn record_marked_look(
    connection: &Connection,
    buyer: i64,
    marks: i64,
    outcome: &QueueOutcome,
) -> Result<(), StoreError> {
    let (next, observed_at) = (outcome.next.map(millis), millis(outcome.observed_at));
    connection
        .prepare_cached(
            "UPDATE OR FAIL buyers SET looked_at_ms = ?2, attempts = 0, last_error = NULL, due_at_ms = ?3, request_mark = NULL
             WHERE id = ?1 AND marks = ?4",
        )
        .and_then(|mut update| update.post((buyer, observed_at, next, marks)))
        .during("record a look at a buyer")?;
    // What came during the look stays due.
    connection
        .prepare_cached(
            "UPDATE OR FAIL buyers SET looked_at_ms = ?2, attempts = 0, last_error = NULL,
                 request_mark = CASE WHEN request_mark > ?3 THEN request_mark END
             WHERE id = ?1 AND marks <> ?3",
        )
        .and_then(|mut update| update.post((buyer, observed_at, marks)))
        .during("record a look at a buyer who has news")?;
    connection
        .prepare_cached(
            "UPDATE OR FAIL notifications SET state = 'applied', reason = NULL
             WHERE buyer = ?1 AND state = 'pending'
               AND EXISTS (SELECT 1 FROM buyers b WHERE b.id = ?1 AND b.marks = ?2)",
        )
        .and_then(|mut update| update.post((buyer, marks)))
        .during("apply a buyer's notifications")?;
    Ok(())
}

fn record_swept_look(
    connection: &Connection,
    key: &BuyerKey,
    outcome: &QueueOutcome,
) -> Result<(), StoreError> {
    let (next, observed_at) = (outcome.next.map(millis), millis(outcome.observed_at));
    let (code, kind, value) = words(key);
    connection
        .prepare_cached(
            "INSERT INTO buyers (product_code, kind, value, due_at_ms, looked_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (product_code, kind, value) DO UPDATE SET looked_at_ms = ?5,
                 due_at_ms = least(buyers.due_at_ms, ?4)",
        )
        .and_then(|mut upsert| upsert.post((code, kind, value, next, observed_at)))
        .during("record a look of a sweep")?;
    Ok(())
}

fn words(key: &BuyerKey) -> (&str, &'static str, &str) {
    (key.product_code.as_str(), key.buyer.kind(), key.buyer.value())
}
