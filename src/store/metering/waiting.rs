//! Frozen records that wait: all of them made due, one of them looked up, and their nearest deadline.

use jiff::Timestamp;

use super::send::{SendableRecord, sendable_row};
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

impl Store {
    /// Makes everything due that waits, since AWS answers again.
    pub async fn make_all_due(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| make_all_due_in(connection, now)).await
    }

    /// Returns a frozen record that is not settled, whether it is due or not.
    pub async fn unsettled_record(&self, id: i64) -> Result<Option<SendableRecord>, StoreError> {
        self.read(move |connection| unsettled_in(connection, id)).await
    }

    /// Returns the nearest deadline that is still to come, of what is frozen and not settled.
    pub async fn nearest_deadline(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT deadline_ms FROM metering_records
                     WHERE state IN ('ready', 'sending') AND deadline_ms > ?1 ORDER BY deadline_ms LIMIT 1",
                )
                .and_then(|mut select| {
                    select.query_row([millis(now)], |row| row.get(0)).optional()
                })
                .map(|deadline: Option<i64>| deadline.map(timestamp))
                .during("find the nearest deadline")
        })
        .await
    }

    /// Returns until when parked records that were frozen can be sent again, by the reason for which they are parked: the
    /// nearest time of each that is still to come.
    pub async fn parked_deadlines(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT coalesce(reason, ''), min(deadline_ms) FROM metering_records
                     WHERE state = 'parked' AND frozen_at_ms IS NOT NULL AND deadline_ms > ?1
                     GROUP BY coalesce(reason, '')",
                )
                .and_then(|mut select| {
                    select
                        .query_map([millis(now)], |row| Ok((row.get(0)?, timestamp(row.get(1)?))))?
                        .collect()
                })
                .during("find until when parked records can be sent")
        })
        .await
    }
}

fn unsettled_in(connection: &Connection, id: i64) -> Result<Option<SendableRecord>, StoreError> {
    connection
        .prepare_cached(
            "SELECT r.*, (SELECT p.seller_account_id FROM products p WHERE p.id = r.product_id) AS seller
             FROM metering_records r WHERE r.id = ?1 AND r.state IN ('ready', 'sending')",
        )
        .and_then(|mut select| select.query_row([id], sendable_row).optional())
        .during("read a record that is not settled")
}

pub(in crate::store) fn make_all_due_in(
    connection: &Connection,
    now: Timestamp,
) -> Result<usize, StoreError> {
    connection
        .prepare_cached(
            "UPDATE metering_records SET next_attempt_at_ms = ?1
             WHERE state IN ('ready', 'sending') AND next_attempt_at_ms > ?1",
        )
        .and_then(|mut update| update.execute([millis(now)]))
        .during("have what waits be due")
}
