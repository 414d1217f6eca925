//! Holding back what AWS's answers would end, when it is too much at once to be believed.

use jiff::Timestamp;

use crate::domain::ProductId;
use crate::domain::event::EventType;
use crate::domain::event::data::{EndingsHeld, EndingsLetGo};
use crate::domain::product::HeldEndings;
use crate::domain::reconciliation::{Brake, COUNTED_FOR, MaxEndings, Unlisted};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// Returns the products of which endings are held back, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrakeKind {
    /// Subscriptions that AWS lists no more.
    Subscriptions,
    /// Dimensions that are gone from a listing, all of them.
    Dimensions,
}

impl BrakeKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::Dimensions => "dimensions",
        }
    }

    fn parse(word: &str) -> Self {
        if word == Self::Dimensions.as_str() { Self::Dimensions } else { Self::Subscriptions }
    }
}

impl Store {
    /// Lets go of what was held back of a product, until now; whether anything was. None without such a product.
    pub async fn confirm_endings(
        &self,
        product: ProductId,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        self.write(move |connection| confirm_in(connection, &product, now)).await
    }

    /// Looks at what is held back, and lets go of what AWS lists again but for a few.
    pub async fn review_brakes(
        &self,
        most: MaxEndings,
        now: Timestamp,
    ) -> Result<Vec<(ProductId, HeldEndings)>, StoreError> {
        if self.read(held_in).await?.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |connection| review_in(connection, most, now)).await
    }

    /// Returns the products of which endings are held back, and how many.
    pub async fn held_endings(&self) -> Result<Vec<(ProductId, HeldEndings)>, StoreError> {
        self.read(held_in).await
    }
}

/// Returns the state of a product's brake.
pub(crate) fn brake_in(
    connection: &Connection,
    product: &ProductId,
    kind: BrakeKind,
) -> Result<Brake, StoreError> {
    connection
        .prepare_cached(
            "SELECT held_since_ms, confirmed_at_ms FROM brakes WHERE product_id = ?1 AND kind = ?2",
        )
        .and_then(|mut select| {
            let brake = |row: &sql::Row<'_>| {
                Ok(Brake {
                    is_held: row.get::<_, Option<i64>>(0)?.is_some(),
                    confirmed_at: optional_timestamp(row.get(1)?),
                })
            };
            select.query_row((product.as_str(), kind.as_str()), brake).optional()
        })
        .map(Option::unwrap_or_default)
        .during("read a brake")
}

/// Counts the endings of a product that AWS only lists no more, without those that a person confirmed.
pub(crate) fn unlisted_in(
    connection: &Connection,
    product: &ProductId,
    confirmed_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Unlisted, StoreError> {
    let since = now.saturating_sub(COUNTED_FOR).unwrap_or(Timestamp::MIN);
    let confirmed = confirmed_at.map_or(i64::MIN, millis);
    let count = |statement: &str, than: i64| {
        connection
            .prepare_cached(statement)
            .and_then(|mut select| select.query_row((product.as_str(), than), |row| row.get(0)))
            .map(|count: i64| u64::try_from(count).unwrap_or(0))
            .during("count what AWS lists no more")
    };
    Ok(Unlisted {
        live: count(
            "SELECT count(*) FROM subscriptions
             WHERE product_id = ?1 AND source = 'aws' AND ended_at_ms IS NULL AND CAST(?2 AS BIGINT) IS NOT NULL",
            0,
        )?,
        unlisted: count(
            "SELECT count(*) FROM subscriptions
             WHERE product_id = ?1 AND missing_since_ms > ?2
               AND missing_since_ms IS NOT NULL AND ended_at_ms IS NULL",
            confirmed,
        )?,
        ended: count(
            "SELECT count(*) FROM unlisted_endings WHERE product_id = ?1 AND at_ms > ?2",
            millis(since),
        )?,
    })
}

/// Notes that so many ended since AWS lists them no more.
pub(crate) fn note_endings_in(
    connection: &Connection,
    product: &ProductId,
    count: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut insert = connection
        .prepare_cached("INSERT INTO unlisted_endings (product_id, at_ms) VALUES (?1, ?2)")
        .during("note an ending")?;
    for _ in 0..count {
        insert.execute((product.as_str(), millis(now))).during("note an ending")?;
    }
    Ok(())
}

/// Holds back what would end, and tells so if nothing was held before.
pub(crate) fn hold_in(
    connection: &Connection,
    product: &ProductId,
    kind: BrakeKind,
    seen: Unlisted,
    allowed: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let was_held = brake_in(connection, product, kind)?.is_held;
    connection
        .prepare_cached(
            "INSERT INTO brakes (product_id, kind, held_since_ms, unlisted, live, allowed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (product_id, kind) DO UPDATE SET held_since_ms = coalesce(brakes.held_since_ms, excluded.held_since_ms),
                 unlisted = excluded.unlisted, live = excluded.live, allowed = excluded.allowed",
        )
        .and_then(|mut upsert| {
            upsert.post((
                product.as_str(),
                kind.as_str(),
                millis(now),
                number(seen.unlisted),
                number(seen.live),
                number(allowed),
            ))
        })
        .during("hold endings back")?;
    if was_held {
        return Ok(());
    }
    let data = EndingsHeld {
        product_id: product,
        what: kind.as_str(),
        unlisted: seen.unlisted,
        live: seen.live,
        allowed,
    };
    append_event_in(connection, EventType::ProductEndingsHeld, None, &data, now)
}

/// Holds nothing back any more; what was missing by then is let go.
pub(crate) fn release_in(
    connection: &Connection,
    product: &ProductId,
    kind: BrakeKind,
    confirmed_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE brakes SET held_since_ms = NULL, confirmed_at_ms = coalesce(?3, confirmed_at_ms)
             WHERE product_id = ?1 AND kind = ?2",
        )
        .and_then(|mut update| {
            update.post((product.as_str(), kind.as_str(), confirmed_at.map(millis)))
        })
        .during("let endings go")?;
    Ok(())
}

fn confirm_in(
    connection: &Connection,
    product: &ProductId,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let exists: Option<i64> = connection
        .prepare_cached("SELECT 1 FROM products WHERE id = ?1")
        .and_then(|mut select| select.query_row([product.as_str()], |row| row.get(0)).optional())
        .during("find a product")?;
    if exists.is_none() {
        return Ok(None);
    }
    let held = held_in(connection)?;
    let held: Vec<_> = held.into_iter().filter(|(id, _)| id == product).collect();
    for (id, held) in &held {
        release_in(connection, id, BrakeKind::parse(held.what), Some(now))?;
        let data = EndingsLetGo { product_id: id, what: held.what, unlisted: held.unlisted };
        append_event_in(connection, EventType::ProductEndingsConfirmed, None, &data, now)?;
    }
    if held.is_empty() {
        return Ok(Some(false));
    }
    for statement in [
        "DELETE FROM unlisted_endings WHERE product_id = ?1 AND at_ms <= ?2",
        "UPDATE buyers SET due_at_ms = ?2
         WHERE product_code = (SELECT code FROM products WHERE id = ?1) AND due_at_ms > ?2
           AND (kind, value) IN (
               SELECT 'license_arn', license_arn FROM subscriptions
               WHERE product_id = ?1 AND missing_since_ms IS NOT NULL AND ended_at_ms IS NULL
               UNION ALL
               SELECT 'account_id', account_id FROM subscriptions
               WHERE product_id = ?1 AND missing_since_ms IS NOT NULL AND ended_at_ms IS NULL
               UNION ALL
               SELECT 'customer_identifier', customer_identifier FROM subscriptions
               WHERE product_id = ?1 AND missing_since_ms IS NOT NULL AND ended_at_ms IS NULL)",
    ] {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.post((product.as_str(), millis(now))))
            .during("let endings go")?;
    }
    Ok(Some(true))
}

fn review_in(
    connection: &Connection,
    most: MaxEndings,
    now: Timestamp,
) -> Result<Vec<(ProductId, HeldEndings)>, StoreError> {
    for (product, held) in held_in(connection)? {
        if held.what != BrakeKind::Subscriptions.as_str() {
            continue;
        }
        let confirmed_at = brake_in(connection, &product, BrakeKind::Subscriptions)?.confirmed_at;
        let seen = unlisted_in(connection, &product, confirmed_at, now)?;
        if seen.is_too_many(most) {
            let allowed = seen.allowed(most);
            hold_in(connection, &product, BrakeKind::Subscriptions, seen, allowed, now)?;
        } else {
            release_in(connection, &product, BrakeKind::Subscriptions, None)?;
            let data =
                EndingsLetGo { product_id: &product, what: held.what, unlisted: seen.unlisted };
            append_event_in(connection, EventType::ProductEndingsReleased, None, &data, now)?;
        }
    }
    let since = now.saturating_sub(COUNTED_FOR).unwrap_or(Timestamp::MIN);
    connection
        .prepare_cached("DELETE FROM unlisted_endings WHERE at_ms <= ?1")
        .and_then(|mut delete| delete.execute([millis(since)]))
        .during("forget endings of long ago")?;
    held_in(connection)
}

fn held_in(connection: &Connection) -> Result<Vec<(ProductId, HeldEndings)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT product_id, kind, held_since_ms, unlisted, live, allowed FROM brakes
             WHERE held_since_ms IS NOT NULL ORDER BY product_id, kind DESC",
        )
        .and_then(|mut select| select.query_map([], held_row)?.collect())
        .during("read what is held back")
}

fn held_row(row: &sql::Row<'_>) -> sql::Result<(ProductId, HeldEndings)> {
    let kind: String = row.get(1)?;
    let count = |place: usize| row.get(place).map(|count: i64| u64::try_from(count).unwrap_or(0));
    let held = HeldEndings {
        what: BrakeKind::parse(&kind).as_str(),
        since: timestamp(row.get(2)?),
        unlisted: count(3)?,
        live: count(4)?,
        allowed: count(5)?,
    };
    Ok((ProductId::new(row.get::<_, String>(0)?), held))
}

/// Returns the endings that are held back of a product.
pub(crate) fn held_of(
    connection: &Connection,
    product: &ProductId,
) -> Result<Vec<HeldEndings>, StoreError> {
    let held = held_in(connection)?.into_iter();
    Ok(held.filter(|(id, _)| id == product).map(|(_, held)| held).collect())
}
