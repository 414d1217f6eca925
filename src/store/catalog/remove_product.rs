//! Removing a product that was imported by mistake.

use jiff::Timestamp;

use super::plan_rows::{PlanError, exists};
use super::plans::update_plan_sources_in;
use super::products::product_in;
use super::versions::remove_in;
use crate::domain::ProductId;
use crate::domain::event::EventType;
use crate::domain::product::Product;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// The reason why a product was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveProductError {
    /// There is no such product.
    #[error("there is no product {0}")]
    Unknown(ProductId),
    /// Somebody bought or used it, or is about to.
    #[error("product {id} is not removed: {reason}")]
    InUse {
        /// The product.
        id: ProductId,
        /// What hangs on it.
        reason: &'static str,
    },
    /// A plan could not be let go.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may hang on a product, and what is said of it then.
const HANGING: [(&str, &str); 8] = [
    (
        "SELECT 1 FROM subscriptions WHERE product_id = ?1",
        "customers are or were subscribed to it, and the books go on naming it",
    ),
    (
        "SELECT 1 FROM licenses l JOIN products p ON p.code = l.product_code WHERE p.id = ?1",
        "AWS has told of a licence of it: somebody bought it",
    ),
    (
        "SELECT 1 FROM buyers b JOIN products p ON p.code = b.product_code WHERE p.id = ?1",
        "AWS has told of a buyer of it",
    ),
    (
        "SELECT 1 FROM registrations r JOIN products p ON p.code = r.product_code WHERE p.id = ?1",
        "a buyer of it has signed up",
    ),
    ("SELECT 1 FROM metering_records WHERE product_id = ?1", "usage of it is in the books"),
    ("SELECT 1 FROM usage_totals WHERE product_id = ?1", "usage of it is in the books"),
    ("SELECT 1 FROM usage_sums WHERE product_id = ?1", "usage of it is in the books"),
    ("SELECT 1 FROM usage_bearers WHERE product_id = ?1", "usage of it is in the books"),
];

/// What goes with a product. Its plans stay; those that nobody ever had are removed after it.
const GOES: [&str; 7] = [
    "UPDATE plans SET product_id = NULL WHERE product_id = ?1",
    "DELETE FROM feature_dimensions WHERE product_id = ?1",
    "DELETE FROM dimensions WHERE product_id = ?1",
    "DELETE FROM brakes WHERE product_id = ?1",
    "DELETE FROM unlisted_endings WHERE product_id = ?1",
    "DELETE FROM agreement_listings WHERE product_id = ?1",
    "DELETE FROM products WHERE id = ?1",
];

impl Store {
    /// Removes a product that nobody ever bought, with the drafts of its plans that nobody ever had; the product as it was.
    pub async fn remove_product(
        &self,
        id: ProductId,
        now: Timestamp,
    ) -> Result<Product, RemoveProductError> {
        self.write(move |connection| remove_product_in(connection, &id, now)).await
    }

    /// Returns what keeps a product from being removed, if anything does.
    pub async fn hangs_on_product(
        &self,
        id: ProductId,
    ) -> Result<Option<&'static str>, StoreError> {
        self.read(move |connection| hanging_in(connection, &id)).await
    }
}

fn hanging_in(connection: &Connection, id: &ProductId) -> Result<Option<&'static str>, StoreError> {
    for (statement, reason) in HANGING {
        if exists(connection, statement, id.as_str())? {
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

fn remove_product_in(
    connection: &Connection,
    id: &ProductId,
    now: Timestamp,
) -> Result<Product, RemoveProductError> {
    let product =
        product_in(connection, id)?.ok_or_else(|| RemoveProductError::Unknown(id.clone()))?;
    if let Some(reason) = hanging_in(connection, id)? {
        return Err(RemoveProductError::InUse { id: id.clone(), reason });
    }
    for statement in GOES {
        connection
            .prepare_cached(statement)
            .and_then(|mut change| change.post([id.as_str()]))
            .during("remove a product")?;
    }
    update_plan_sources_in(connection, now)?;
    for plan in product.plans.iter().filter(|it| it.product_id.as_ref() == Some(id)) {
        match remove_in(connection, &plan.id, now) {
            // Published, or another product's too: it stays, as a plan of the seller's own.
            Ok(_) | Err(PlanError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    append_event_in(connection, EventType::ProductRemoved, None, &product, now)?;
    Ok(product)
}
