//! Aliases: ids that a customer had before two became one.

use crate::domain::CustomerId;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

/// Returns the id that a customer goes by now: itself, or what an alias leads to.
pub(crate) fn canonical_in(
    connection: &Connection,
    id: &CustomerId,
) -> Result<Option<CustomerId>, StoreError> {
    connection
        .prepare_cached(
            "SELECT id FROM customers WHERE id = ?1
             UNION ALL SELECT customer_id FROM customer_aliases WHERE alias = ?1 LIMIT 1",
        )
        .and_then(|mut select| {
            select.query_row([id.as_str()], |row| row.get::<_, String>(0)).optional()
        })
        .map(|found| found.map(CustomerId::new))
        .during("find a customer")
}
