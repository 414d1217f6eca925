//! The move of a legacy product to licences: from which hour on its buyers are metered by licence.

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;

use super::events::append_event_in;
use super::routes::licensed_from_in;
use super::{During, Store, StoreError};
use crate::domain::{ClockHour, ProductId};

/// Why a product's move to licences could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LicensingError {
    /// There is no such product.
    #[error("there is no product {0}")]
    UnknownProduct(ProductId),
    /// Some of its hours may have been metered by product code already.
    #[error(
        "{from} is too early: the hour that has begun is metered by product code, and an hour metered in both forms is billed twice; name {first} or later"
    )]
    TooEarly {
        /// The hour asked for.
        from: ClockHour,
        /// The first that can be.
        first: ClockHour,
    },
    /// The move has happened.
    #[error("product {product} is metered by licence since {since}; AWS knows no way back")]
    Done {
        /// The product.
        product: ProductId,
        /// Since when.
        since: ClockHour,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Sets or takes back the hour from which a legacy product's buyers are metered by licence. An hour is metered
    /// in one form: the move lies ahead, and what lies behind is never changed.
    pub async fn set_licensed_from(
        &self,
        product: ProductId,
        from: Option<ClockHour>,
        now: Timestamp,
    ) -> Result<(), LicensingError> {
        self.write(move |connection| set_in(connection, &product, from, now)).await?;
        self.nudge_events();
        Ok(())
    }
}

fn set_in(
    connection: &Connection,
    product: &ProductId,
    from: Option<ClockHour>,
    now: Timestamp,
) -> Result<(), LicensingError> {
    let first = ClockHour::of(now).next();
    let held = licensed_from_in(connection, product)?;
    if held == from && held.is_some() {
        return Ok(());
    }
    if let Some(since) = held.filter(|since| *since < first) {
        return Err(LicensingError::Done { product: product.clone(), since });
    }
    if let Some(from) = from.filter(|from| *from < first) {
        return Err(LicensingError::TooEarly { from, first });
    }
    let changed = connection
        .prepare_cached("UPDATE products SET licensed_from_hour = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((product.as_str(), from.map(ClockHour::number))))
        .during("set how a product is metered")?;
    if changed == 0 {
        return Err(LicensingError::UnknownProduct(product.clone()));
    }
    let data = json!({"product_id": product, "licensed_from": from});
    append_event_in(connection, "product.licensing_changed", None, &data, now)?;
    Ok(())
}
