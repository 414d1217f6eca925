//! Aliases: ids that a customer had before two became one.

use crate::domain::CustomerId;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

const CANONICAL: &str = "SELECT id FROM customers WHERE id = ?1
     UNION ALL SELECT customer_id FROM customer_aliases WHERE alias = ?1 LIMIT 1";

/// Asks ahead for what [`canonical_in`] reads.
pub(crate) fn ask_canonical(connection: &Connection, id: &CustomerId) -> Result<(), StoreError> {
    connection.ask_ahead(CANONICAL, &[id.as_str()]).during("find a customer")
}

/// Returns the id that a customer goes by now: itself, or what an alias leads to.
pub(crate) fn canonical_in(
    connection: &Connection,
    id: &CustomerId,
) -> Result<Option<CustomerId>, StoreError> {
    connection
        .prepare_cached(CANONICAL)
        .and_then(|mut select| {
            select.query_row([id.as_str()], |row| row.get::<_, String>(0)).optional()
        })
        .map(|found| found.map(CustomerId::new))
        .during("find a customer")
}
