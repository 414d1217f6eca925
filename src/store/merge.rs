//! Two customers become one: everything of the one moves to the other, and its id stays as an alias.

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;

use super::events::append_event_in;
use super::joining::join_records_in;
use super::{During, StoreError};
use crate::domain::CustomerId;

/// What names its customer and cannot collide by changing hands. Usage events and the outbox are history and
/// grow without bound: they keep the id they were written with, which goes on leading here as an alias.
const MOVES: &[&str] = &[
    "UPDATE subscriptions SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE identities SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE customer_aliases SET customer_id = ?2 WHERE customer_id = ?1",
    "INSERT INTO usage_hours (customer_id, feature_id, holder, from_ms, quantity)
         SELECT ?2, feature_id, holder, from_ms, quantity FROM usage_hours WHERE customer_id = ?1
         ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
    "DELETE FROM usage_hours WHERE customer_id = ?1 AND ?2 <> ?1",
];

/// Moves everything of `from` to `into`.
pub(super) fn merge_customers_in(
    connection: &Connection,
    from: &CustomerId,
    into: &CustomerId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids = (from.as_str(), into.as_str());
    join_records_in(connection, from, into, now)?;
    for statement in MOVES {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.execute(ids))
            .during("move a customer's history")?;
    }
    connection
        .prepare_cached(
            "UPDATE customers SET
                 name = ifnull(name, (SELECT name FROM customers WHERE id = ?1)),
                 email = ifnull(email, (SELECT email FROM customers WHERE id = ?1))
             WHERE id = ?2",
        )
        .and_then(|mut update| update.execute(ids))
        .during("join two customers")?;
    connection
        .prepare_cached("DELETE FROM customers WHERE id = ?1")
        .and_then(|mut delete| delete.execute([from.as_str()]))
        .during("join two customers")?;
    connection
        .prepare_cached("INSERT INTO customer_aliases (alias, customer_id) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(ids))
        .during("join two customers")?;
    let data = json!({"id": into, "merged": from});
    append_event_in(connection, "customer.merged", Some(into), &data, now)
}
