//! Sending: the records that are due, and the attempts at them.

use jiff::{SignedDuration, Timestamp};

use super::parking::park;
use super::record_rows::{identity_row, stamp_of};
use super::standstills::standstill_until;
use crate::domain::allocation::Allocation;
use crate::domain::ledger::{ParkReason, WireIdentity, deadline};
use crate::domain::{AccountId, ClockHour, DimensionKey, ProductId, Quantity};
use crate::store::base::columns::{millis, optional_timestamp, quantity, timestamp};
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, Store, StoreError};

/// The time after its deadline at which a record is given up: clocks differ, and AWS's own answer is better.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Records that are given up in one transaction: nobody else writes meanwhile.
const GIVEN_UP_AT_ONCE: i64 = 250;
/// The number of such transactions before what is due is looked for: nothing else is sent meanwhile.
const GIVEN_UP_BEFORE: u32 = 8;

/// The time within which records that fall due fill up calls that go out anyway.
const AHEAD: SignedDuration = SignedDuration::from_secs(2);

/// A frozen record that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendableRecord {
    /// The record.
    pub id: i64,
    /// The product; a call holds records of one.
    pub product_id: ProductId,
    /// The account that sells it, where the catalog has told.
    pub seller: Option<AccountId>,
    /// The names by which it gives AWS its buyer.
    pub identity: WireIdentity,
    /// The dimension.
    pub dimension: DimensionKey,
    /// The hour.
    pub hour: ClockHour,
    /// The moment within it that AWS is told, the same in every attempt.
    pub stamp: Timestamp,
    /// The quantity, in whole units.
    pub quantity: Quantity,
    /// The split by tags; none where nothing is tagged.
    pub allocations: Vec<Allocation>,
    /// The region in which it is metered, from the first attempt to the last: AWS deduplicates by region.
    pub region: String,
}

/// An attempt to send a record, to which AWS's answer belongs. Another process may try the same record meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The record.
    pub record: i64,
    /// The number among the record's attempts.
    pub number: i64,
}

impl Store {
    /// Returns the frozen records that are due to be sent, nearest deadline first, with those almost due. Parks those
    /// that AWS surely takes no more, some at a time: none of the others is returned either.
    pub async fn records_to_send(
        &self,
        window: SignedDuration,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<SendableRecord>, StoreError> {
        loop {
            let all = self.park_all_expired(window, now).await?;
            let due = self.due_records(limit, now).await?;
            if all || !due.is_empty() {
                return Ok(due);
            }
        }
    }

    /// Parks what is out of time, up to a bound; returns whether that was all.
    async fn park_all_expired(
        &self,
        window: SignedDuration,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        for _ in 0..GIVEN_UP_BEFORE {
            // Most passes find none, and write nothing.
            if !self.read(move |connection| has_expired(connection, now)).await? {
                return Ok(true);
            }
            self.write(move |connection| park_expired(connection, window, now)).await?;
        }
        Ok(false)
    }

    async fn due_records(
        &self,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<SendableRecord>, StoreError> {
        let ahead = now.saturating_add(AHEAD).unwrap_or(now);
        let find = move |connection: &Connection| {
            // An hour that has not begun, as after a clock was set back, would sink the whole call.
            let mut select = connection
                .prepare_cached(
                    "SELECT r.*, (SELECT p.seller_account_id FROM products p WHERE p.id = r.product_id) AS seller
                     FROM metering_records r
                     WHERE r.state IN ('ready', 'sending') AND r.next_attempt_at_ms <= ?4 AND r.hour <= ?2
                       AND r.deadline_ms >= ?5
                       AND EXISTS (SELECT 1 FROM metering_records
                           WHERE state IN ('ready', 'sending') AND next_attempt_at_ms <= ?1 AND hour <= ?2)
                     ORDER BY r.deadline_ms, r.id LIMIT ?3",
                )
                .during("find records to send")?;
            let rows = select
                .query_map(
                    (
                        millis(now),
                        ClockHour::of(now).number(),
                        limit,
                        millis(ahead),
                        given_up_before(now),
                    ),
                    sendable_row,
                )
                .during("find records to send")?;
            rows.collect::<Result<_, _>>().during("find records to send")
        };
        self.read(find).await
    }

    /// Notes that these records are about to be sent, and returns the attempts at those that still are to be. Until
    /// AWS's answer is written, their outcome is unknown.
    pub async fn begin_attempts(
        &self,
        records: Vec<i64>,
        now: Timestamp,
    ) -> Result<Vec<Attempt>, StoreError> {
        self.write_as_holder(move |connection| {
            let begun = records.iter().map(|record| begin_attempt(connection, *record, now));
            begun.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// Returns the time at which the next record is due, if any is.
    pub async fn next_send_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT min(next_attempt_at_ms) FROM metering_records
                     WHERE state IN ('ready', 'sending')",
                )
                .and_then(|mut select| select.query_row([], |row| row.get::<_, Option<i64>>(0)))
                .map(optional_timestamp)
                .during("find the next record to send")
        })
        .await
    }
}

/// Returns the deadline before which a record is given up.
pub(super) fn given_up_before(now: Timestamp) -> i64 {
    millis(now.saturating_sub(GIVE_UP_AFTER).unwrap_or(Timestamp::MIN))
}

fn has_expired(connection: &Connection, now: Timestamp) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT 1 FROM metering_records WHERE state IN ('ready', 'sending') AND deadline_ms < ?1 LIMIT 1",
        )
        .and_then(|mut select| select.exists([given_up_before(now)]))
        .during("find records out of time")
}

fn park_expired(
    connection: &Connection,
    window: SignedDuration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let expired: Vec<Expired> = connection
        .prepare_cached(
            "SELECT id, product_id, hour, frozen_at_ms, deadline_ms, attempts, last_error FROM metering_records
             WHERE state IN ('ready', 'sending') AND deadline_ms < ?1 ORDER BY deadline_ms, id LIMIT ?2",
        )
        .and_then(|mut select| {
            let bounds = (given_up_before(now), GIVEN_UP_AT_ONCE);
            select.query_map(bounds, expired_row)?.collect()
        })
        .during("find records out of time")?;
    for it in &expired {
        let by_window = deadline(it.hour, window) <= now;
        let reason =
            if by_window { ParkReason::OutOfWindow } else { ParkReason::SubscriptionEnded };
        say_what_kept(connection, it)?;
        park(connection, it.id, reason, now)?;
    }
    Ok(())
}

/// A record that AWS surely takes no more.
struct Expired {
    id: i64,
    product_id: ProductId,
    hour: ClockHour,
    frozen_at: Timestamp,
    deadline: Timestamp,
    attempts: i64,
    last_error: Option<String>,
}

fn expired_row(row: &sql::Row<'_>) -> sql::Result<Expired> {
    Ok(Expired {
        id: row.get("id")?,
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        hour: ClockHour::from_number(row.get("hour")?),
        frozen_at: optional_timestamp(row.get("frozen_at_ms")?).unwrap_or(Timestamp::MIN),
        deadline: timestamp(row.get("deadline_ms")?),
        attempts: row.get("attempts")?,
        last_error: row.get("last_error")?,
    })
}

/// Writes beside a record what kept it from being sent, where nothing of its product's went through.
fn say_what_kept(connection: &Connection, it: &Expired) -> Result<(), StoreError> {
    let kept = standstill_until(connection, &it.product_id, it.frozen_at, it.deadline)?;
    let Some(standstill) = kept else { return Ok(()) };
    let error = standstill.told_by(it.attempts, it.last_error.as_deref());
    connection
        .prepare_cached("UPDATE metering_records SET last_error = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((it.id, error)))
        .during("write what kept a record")?;
    Ok(())
}

pub(crate) fn sendable_row(row: &sql::Row<'_>) -> sql::Result<SendableRecord> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let hour = ClockHour::from_number(row.get("hour")?);
    Ok(SendableRecord {
        id: row.get("id")?,
        product_id: ProductId::new(row.get::<_, String>("product_id")?),
        seller: text("seller")?.map(AccountId::new),
        identity: identity_row(row)?,
        dimension: DimensionKey::new(row.get::<_, String>("dimension")?),
        hour,
        stamp: stamp_of(row, hour)?,
        quantity: quantity(row.get("quantity")?),
        // Written by freezing, and never changed since.
        allocations: text("allocations")?
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default(),
        region: text("region")?.unwrap_or_default(),
    })
}

/// Begins an attempt at a record that is still to be sent, and in time. Its number is above that of every other: one that is under
/// way elsewhere may be taken back, so their count says nothing.
fn begin_attempt(
    connection: &Connection,
    record: i64,
    now: Timestamp,
) -> Result<Option<Attempt>, StoreError> {
    let still = connection
        .prepare_cached(
            "UPDATE OR FAIL metering_records SET state = 'sending', attempts = attempts + 1
             WHERE id = ?1 AND state IN ('ready', 'sending') AND deadline_ms >= ?2",
        )
        .and_then(|mut update| update.execute((record, given_up_before(now))))
        .during("begin an attempt")?;
    if still == 0 {
        return Ok(None);
    }
    connection
        .prepare_cached(
            "INSERT INTO metering_attempts (record_id, attempt, at_ms, outcome)
             SELECT ?1, 1 + coalesce(max(attempt), 0), ?2, 'unknown' FROM metering_attempts WHERE record_id = ?1
             RETURNING attempt",
        )
        .and_then(|mut insert| insert.query_row((record, millis(now)), |row| row.get(0)))
        .map(|number| Some(Attempt { record, number }))
        .during("begin an attempt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_database::open_store;

    const WINDOW: SignedDuration = SignedDuration::from_hours(6);

    /// Makes frozen records of an hour, numbered from `first` on, whose deadline is over or not.
    async fn freeze(store: &Store, first: i64, count: i64, hour: ClockHour, deadline: Timestamp) {
        let freeze = move |connection: &Connection| {
            let mut insert = connection
                .prepare_cached(
                    "INSERT INTO metering_records (id, product_id, customer_id, holder, dimension, hour, quantity, state,
                         product_code, customer_identifier, region, frozen_at_ms, deadline_ms, next_attempt_at_ms)
                     VALUES (?1, 'p', 'c', CAST(?2 AS TEXT), 'gb', ?3, 1000000, 'ready', 'code', 'x', 'us-east-1', 1, ?4, 1)",
                )
                .during("test")?;
            for id in first..first + count {
                let row = (id, format!("buyer:{id}"), hour.number(), millis(deadline));
                insert.execute(row).during("test")?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(freeze).await.unwrap();
    }

    async fn left(store: &Store) -> i64 {
        let left = "SELECT count(*) FROM metering_records WHERE state = 'ready'";
        let count = move |connection: &Connection| {
            connection.query_row(left, [], |row| row.get(0)).during("test")
        };
        store.read(count).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_out_of_time_is_given_up_in_pieces_and_never_sent() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now: Timestamp = "2026-11-10T09:30:00Z".parse().unwrap();
        let (old, recent) =
            (now - SignedDuration::from_hours(9), now - SignedDuration::from_hours(1));
        let in_time = now + SignedDuration::from_hours(1);
        let bound = GIVEN_UP_AT_ONCE * i64::from(GIVEN_UP_BEFORE);
        let expired = bound + 10;
        freeze(&store, 1, expired, ClockHour::of(old), now - SignedDuration::from_hours(3)).await;
        let fresh = expired + 1;
        freeze(&store, fresh, 1, ClockHour::of(recent), in_time).await;

        let parked = store.write(move |connection| park_expired(connection, WINDOW, now)).await;
        parked.unwrap();
        assert_eq!(left(&store).await, expired - GIVEN_UP_AT_ONCE + 1, "one transaction's part");
        let begun = store.begin_attempts(vec![fresh - 1], now).await.unwrap();
        assert_eq!(begun, [], "nothing is begun that is out of time, parked or not");
        let late = now - SignedDuration::from_hours(2);
        freeze(&store, fresh + 1, GIVEN_UP_AT_ONCE, ClockHour::of(old), late).await;

        let ids = async || -> Vec<i64> {
            let due = store.records_to_send(WINDOW, 5_000, now).await.unwrap();
            due.into_iter().map(|it| it.id).collect()
        };
        assert_eq!(ids().await, [fresh], "what is in time does not wait for all of the rest");
        assert_eq!(left(&store).await, 10 + 1);
        assert_eq!(ids().await, [fresh]);
        assert_eq!(left(&store).await, 1);
        // Where nothing is due, all of it is given up at once.
        freeze(&store, 2 * fresh, expired, ClockHour::of(old), late).await;
        store.begin_attempts(vec![fresh], now).await.unwrap();
        let settled = "UPDATE metering_records SET state = 'accepted' WHERE state = 'sending'";
        let settle =
            move |connection: &Connection| connection.execute(settled, []).map(drop).during("test");
        store.write(settle).await.unwrap();
        assert_eq!(ids().await, [0_i64; 0]);
        assert_eq!(left(&store).await, 0);
        store.close();
    }
}
