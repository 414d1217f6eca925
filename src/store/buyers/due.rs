//! Dirty buyers: who is due for a look at AWS, and how earlier looks failed.
//!
//! `due_at_ms` is the one mechanism behind notifications, expiry dates, second looks and retries: whatever
//! wants a look sets it. `marks` counts the wants, so that news during a look is not taken for settled. `request_mark` is
//! the newest of them behind which somebody waits: only such a look asks AWS anew about what it has not settled yet.

use jiff::{SignedDuration, Timestamp};

use crate::domain::{BuyerKey, BuyerRef, ProductCode};
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// A buyer who is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueBuyer {
    /// The id of the buyer's row.
    pub id: i64,
    /// The buyer.
    pub key: BuyerKey,
    /// The mark that a look which begins now will settle.
    pub marks: i64,
    /// Set if one of the marks is a request.
    pub requested: bool,
}

impl DueBuyer {
    /// Returns the buyer as a look that fails leaves it.
    pub fn unsettled(&self) -> FailingBuyer {
        FailingBuyer { key: self.key.clone(), marks: Some(self.marks) }
    }
}

/// A buyer whose look failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingBuyer {
    /// The buyer.
    pub key: BuyerKey,
    /// The mark that the look began with; none for a sweep, which nobody asked for.
    pub marks: Option<i64>,
}

/// Numbers about dirty buyers, for metrics and the one-shot's summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuyerCounts {
    /// The number of buyers due now.
    pub due: i64,
    /// The number of buyers due now after failed looks.
    pub failing: i64,
}

/// The cause of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkCause {
    /// AWS told or showed something, which is known by now.
    News,
    /// A buyer signs up, or the seller names one: somebody waits, and what is known may be behind.
    Request,
}

pub(crate) struct MarkedBuyer {
    pub(crate) id: i64,
    pub(crate) imported: bool,
}

/// Makes a buyer due at a time, or sooner if it is due sooner. While its product is not imported it waits for
/// the import.
pub(crate) fn mark_buyer_in(
    connection: &Connection,
    key: &BuyerKey,
    cause: MarkCause,
    due_at: Timestamp,
) -> Result<MarkedBuyer, StoreError> {
    let requested = cause == MarkCause::Request;
    let words = (key.product_code.as_str(), key.buyer.kind(), key.buyer.value());
    let (imported, known): (bool, Option<i64>) = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM products WHERE code = ?1),
                 (SELECT id FROM buyers WHERE product_code = ?1 AND kind = ?2 AND value = ?3)",
        )
        .and_then(|mut select| select.query_row(words, |row| Ok((row.get(0)?, row.get(1)?))))
        .during("look up a buyer")?;
    let due = imported.then(|| millis(due_at));
    if let Some(id) = known {
        connection
            .prepare_cached(
                "UPDATE OR FAIL buyers SET marks = marks + 1, due_at_ms = least(due_at_ms, ?2), attempts = 0,
                     request_mark = CASE WHEN ?3 THEN marks + 1 ELSE request_mark END
                 WHERE id = ?1",
            )
            .and_then(|mut update| update.post((id, due, requested)))
            .during("mark a buyer")?;
        return Ok(MarkedBuyer { id, imported });
    }
    let (code, kind, value) = words;
    // FAIL, not ABORT: all of the write is undone anyway, and ABORT has SQLite make ready to undo this by itself.
    let id = connection
        .prepare_cached(
            "INSERT OR FAIL INTO buyers (product_code, kind, value, marks, due_at_ms, request_mark)
             VALUES (?1, ?2, ?3, 1, ?4, CASE WHEN ?5 THEN 1 END) RETURNING id",
        )
        .and_then(|mut insert| {
            insert.query_row((code, kind, value, due, requested), |row| row.get(0))
        })
        .during("mark a new buyer")?;
    Ok(MarkedBuyer { id, imported })
}

fn postpone_in(
    connection: &Connection,
    buyer: &FailingBuyer,
    error: &str,
    wait: impl Fn(u32) -> SignedDuration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = &buyer.key;
    let (id, attempts, marks): (i64, u32, i64) = connection
        .prepare_cached(
            "INSERT INTO buyers (product_code, kind, value, attempts, last_error)
             VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT (product_code, kind, value) DO UPDATE SET
                 attempts = buyers.attempts + 1, last_error = excluded.last_error
             RETURNING id, attempts, marks",
        )
        .and_then(|mut upsert| {
            let (code, kind, value) =
                (key.product_code.as_str(), key.buyer.kind(), key.buyer.value());
            upsert.query_row((code, kind, value, error), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .during("keep a failed look")?;
    let at = now.saturating_add(wait(attempts.saturating_sub(1))).unwrap_or(Timestamp::MAX);
    // News that came meanwhile stays due as it is: if the look at that fails too, it waits.
    let nothing_new = buyer.marks == Some(marks);
    connection
        .prepare_cached(
            "UPDATE buyers SET due_at_ms = CASE WHEN ?3 THEN ?2 ELSE least(due_at_ms, ?2) END
             WHERE id = ?1",
        )
        .and_then(|mut update| update.post((id, millis(at), nothing_new)))
        .during("postpone a buyer")?;
    Ok(())
}

impl Store {
    /// Makes a buyer due now.
    pub async fn mark_buyer_dirty(&self, key: BuyerKey, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            mark_buyer_in(connection, &key, MarkCause::News, now).map(drop)
        })
        .await
    }

    /// Returns the buyers who are due, longest waiting first.
    pub async fn due_buyers(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueBuyer>, StoreError> {
        self.read(move |connection| {
            let mut select = connection
                .prepare_cached(
                    "SELECT id, product_code, kind, value, marks, request_mark IS NOT NULL FROM buyers
                     WHERE due_at_ms <= ?1 ORDER BY due_at_ms LIMIT ?2",
                )
                .during("take due buyers")?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = select
                .query_map((millis(now), limit), |row| {
                    let kind: String = row.get(2)?;
                    let buyer = BuyerRef::from_parts(&kind, row.get(3)?);
                    let marks = (row.get(4)?, row.get(5)?);
                    Ok((row.get(0)?, row.get::<_, String>(1)?, buyer, marks))
                })
                .during("take due buyers")?;
            let mut due = Vec::new();
            for row in rows {
                let (id, code, buyer, (marks, requested)) = row.during("take due buyers")?;
                // The kind is checked by the schema.
                let Some(buyer) = buyer else { continue };
                let key = BuyerKey { product_code: ProductCode::new(code), buyer };
                due.push(DueBuyer { id, key, marks, requested });
            }
            Ok(due)
        })
        .await
    }

    /// Returns the time at which the next buyer is due, if any is.
    pub async fn next_due_buyer(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            connection
                .query_row(
                    "SELECT min(due_at_ms) FROM buyers WHERE due_at_ms IS NOT NULL",
                    [],
                    |row| row.get::<_, Option<i64>>(0),
                )
                .map(|millis| millis.map(timestamp))
                .during("find the next due buyer")
        })
        .await
    }

    /// Counts the buyers that are due.
    pub async fn buyer_counts(&self, now: Timestamp) -> Result<BuyerCounts, StoreError> {
        self.read(move |connection| {
            connection
                .query_row(
                    "SELECT count(*), count(*) FILTER (WHERE last_error IS NOT NULL)
                     FROM buyers WHERE due_at_ms <= ?1 OR (due_at_ms IS NOT NULL AND last_error IS NOT NULL)",
                    [millis(now)],
                    |row| Ok(BuyerCounts { due: row.get(0)?, failing: row.get(1)? }),
                )
                .during("count due buyers")
        })
        .await
    }

    /// Keeps failed looks with their reason and when to try again: after a wait that depends on how many have failed
    /// before.
    pub async fn postpone_buyers(
        &self,
        buyers: Vec<(FailingBuyer, String)>,
        wait: impl Fn(u32) -> SignedDuration + Send + 'static,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            for (buyer, error) in &buyers {
                postpone_in(connection, buyer, error, &wait, now)?;
            }
            Ok(())
        })
        .await
    }

    /// Makes the buyers due at once whose look failed and was put off.
    pub async fn hasten_buyers(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| hasten_in(connection, now)).await
    }

    /// Lists the codes of the imported products.
    pub async fn imported_codes(&self) -> Result<Vec<ProductCode>, StoreError> {
        self.read(imported_codes_in).await
    }
}

/// Makes the buyers due whose look failed and was put off.
pub(in crate::store) fn hasten_in(
    connection: &Connection,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE buyers SET due_at_ms = ?1, attempts = 0
             WHERE due_at_ms > ?1 AND last_error IS NOT NULL",
        )
        .and_then(|mut update| update.post([millis(now)]))
        .during("hasten buyers")?;
    Ok(())
}

/// Lists the imported products' codes.
pub(crate) fn imported_codes_in(connection: &Connection) -> Result<Vec<ProductCode>, StoreError> {
    connection
        .prepare_cached("SELECT code FROM products ORDER BY code")
        .and_then(|mut select| {
            select.query_map([], |row| row.get::<_, String>(0).map(ProductCode::new))?.collect()
        })
        .during("list products")
}
