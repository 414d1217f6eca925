//! The release of what waits for a product's import: within the import itself, and once more at each start.
//!
//! Buyers who were told of before are due at no time, and events that name their product by its catalog id alone belong
//! to nobody. An import that stands and has not let go of them would strand them, since nothing tells of them again.

use jiff::Timestamp;

use super::inbox::{NotificationRow, notification_row, replay_in};
use crate::domain::ProductCode;
use crate::store::base::columns::millis;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

impl Store {
    /// Releases whatever waits for an import that has happened. Nothing does, unless something went wrong.
    pub async fn release_waiting(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            let of_products = "SELECT n.* FROM notifications n WHERE n.state = 'pending' AND n.buyer IS NULL
                 AND EXISTS (SELECT 1 FROM products p 
                     WHERE replace(n.body, p.entity_id, '') <> n.body OR replace(n.body, p.code, '') <> n.body)
                 ORDER BY n.seq";
            read_anew_in(connection, of_products, now)?;
            let statements = [
                "UPDATE buyers SET due_at_ms = ?1
                 WHERE due_at_ms IS NULL AND looked_at_ms IS NULL
                     AND product_code IN (SELECT code FROM products)",
                "UPDATE buyers SET due_at_ms = ?1
                 WHERE due_at_ms IS NULL AND product_code IN (SELECT code FROM products) AND id IN (
                     SELECT buyer FROM notifications WHERE state = 'pending' AND buyer IS NOT NULL)",
            ];
            for statement in statements {
                connection
                    .prepare_cached(statement)
                    .and_then(|mut update| update.post([millis(now)]))
                    .during("release who waits for an import")?;
            }
            connection
                .prepare_cached(
                    "UPDATE notifications SET reason = NULL
                     WHERE state = 'pending' AND reason = 'product_not_imported'
                         AND product_code IN (SELECT code FROM products)",
                )
                .and_then(|mut update| update.post([]))
                .during("release the notifications of imported products")?;
            Ok::<_, StoreError>(())
        })
        .await?;
        Ok(())
    }
}

/// Releases what waited for a product's import, in its transaction: its buyers become due, and events that could not
/// be joined to a product are read again.
pub(crate) fn release_in(
    connection: &Connection,
    product_code: &ProductCode,
    now: Timestamp,
) -> Result<(), StoreError> {
    let unjoined =
        "SELECT * FROM notifications WHERE state = 'pending' AND buyer IS NULL ORDER BY seq";
    read_anew_in(connection, unjoined, now)?;
    connection
        .prepare_cached("UPDATE buyers SET due_at_ms = ?2 WHERE product_code = ?1")
        .and_then(|mut update| update.execute((product_code.as_str(), millis(now))))
        .during("release a product's buyers")?;
    connection
        .prepare_cached(
            "UPDATE notifications SET reason = NULL
             WHERE state = 'pending' AND product_code = ?1 AND reason = 'product_not_imported'",
        )
        .and_then(|mut update| update.post([product_code.as_str()]))
        .during("release a product's notifications")?;
    Ok(())
}

/// Reads the notifications anew that a statement selects.
fn read_anew_in(
    connection: &Connection,
    statement: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let unjoined: Vec<NotificationRow> = connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map([], notification_row)?.collect())
        .during("find notifications without a product")?;
    for row in unjoined {
        replay_in(connection, &row, now)?;
    }
    Ok(())
}
