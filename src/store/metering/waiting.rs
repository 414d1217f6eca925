//! Frozen records that wait: all of them made due, one of them looked up, and their nearest deadline.

use jiff::Timestamp;

use super::billed::BilledSubscriptions;
use super::send::{SendableRecord, given_up_before, sendable_row};
use crate::domain::{Holder, ProductId};
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

impl Store {
    /// Makes everything due that waits, since AWS answers again.
    pub async fn make_all_due(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| make_all_due_in(connection, now)).await
    }

    /// Returns a frozen record that is not settled and in time, whether it is due or not.
    pub async fn unsettled_record(
        &self,
        id: i64,
        now: Timestamp,
    ) -> Result<Option<SendableRecord>, StoreError> {
        self.read(move |connection| unsettled_in(connection, id, now)).await
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
    /// nearest time of each that is still to come. AWS takes nothing of subscriptions that ended an hour ago.
    pub async fn parked_deadlines(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(move |connection| parked_deadlines_in(connection, now)).await
    }
}

/// Looks at the holders in the order of their deadlines, for each reason as far as the first of whom AWS takes usage.
fn parked_deadlines_in(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let during = "find until when parked records can be sent";
    let mut select = connection
        .prepare_cached(
            "SELECT coalesce(reason, '') AS why, product_id, holder, min(deadline_ms) AS until
             FROM metering_records
             WHERE state = 'parked' AND frozen_at_ms IS NOT NULL AND deadline_ms > ?1
             GROUP BY coalesce(reason, ''), product_id, holder ORDER BY until",
        )
        .during(during)?;
    let mut rows = select.query([millis(now)]).during(during)?;
    let mut subscriptions = BilledSubscriptions::new(connection);
    let mut nearest = Vec::<(String, Timestamp)>::new();
    while let Some(row) = rows.next().during(during)? {
        let text = |column| row.get::<_, String>(column).during(during);
        let (why, holder) = (text(0)?, text(2)?);
        if nearest.iter().any(|(known, _)| *known == why) {
            continue;
        }
        let Some(holder) = Holder::parse(&holder) else { continue };
        let billed = subscriptions.of(&ProductId::new(text(1)?), &holder)?;
        // What we do not know to have ended AWS decides on.
        if billed.is_none_or(|it| it.subscription.tenure().is_taken_at(now)) {
            nearest.push((why, timestamp(row.get(3).during(during)?)));
        }
    }
    Ok(nearest)
}

fn unsettled_in(
    connection: &Connection,
    id: i64,
    now: Timestamp,
) -> Result<Option<SendableRecord>, StoreError> {
    connection
        .prepare_cached(
            "SELECT r.*, (SELECT p.seller_account_id FROM products p WHERE p.id = r.product_id) AS seller
             FROM metering_records r WHERE r.id = ?1 AND r.state IN ('ready', 'sending')
               AND r.deadline_ms >= ?2",
        )
        .and_then(|mut select| select.query_row((id, given_up_before(now)), sendable_row).optional())
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
