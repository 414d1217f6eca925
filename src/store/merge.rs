//! Two customers become one: everything of the one moves to the other, and its id stays as an alias.

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;

use super::events::append_event_in;
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

/// Usage that waited, unassigned, under both ids for the same hour becomes one record.
const RECORD_MOVES: &[&str] = &[
    "UPDATE metering_records AS kept SET
         quantity = kept.quantity + other.quantity, carried_in = kept.carried_in + other.carried_in,
         tagged = max(kept.tagged, other.tagged)
     FROM metering_records AS other
     WHERE kept.customer_id = ?2 AND other.customer_id = ?1 AND other.product_id = kept.product_id
       AND other.holder = kept.holder AND other.dimension = kept.dimension AND other.hour = kept.hour
       AND kept.state = 'open' AND other.state = 'open'",
    "UPDATE usage_events SET record_id = kept.id
     FROM metering_records AS kept, metering_records AS other
     WHERE usage_events.record_id = other.id AND kept.customer_id = ?2 AND other.customer_id = ?1
       AND other.product_id = kept.product_id AND other.holder = kept.holder
       AND other.dimension = kept.dimension AND other.hour = kept.hour
       AND kept.state = 'open' AND other.state = 'open'",
    "INSERT INTO metering_tags (record_id, tags, quantity)
     SELECT kept.id, split.tags, split.quantity FROM metering_tags AS split
     JOIN metering_records AS other ON other.id = split.record_id AND other.customer_id = ?1
     JOIN metering_records AS kept ON kept.customer_id = ?2 AND kept.product_id = other.product_id
       AND kept.holder = other.holder AND kept.dimension = other.dimension AND kept.hour = other.hour
     WHERE kept.state = 'open' AND other.state = 'open'
     ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
    "DELETE FROM metering_tags WHERE record_id IN (
         SELECT other.id FROM metering_records AS other JOIN metering_records AS kept
           ON kept.customer_id = ?2 AND kept.product_id = other.product_id AND kept.holder = other.holder
             AND kept.dimension = other.dimension AND kept.hour = other.hour
         WHERE other.customer_id = ?1 AND kept.state = 'open' AND other.state = 'open')",
    "DELETE FROM metering_records AS other WHERE customer_id = ?1 AND state = 'open' AND EXISTS (
         SELECT 1 FROM metering_records AS kept
         WHERE kept.customer_id = ?2 AND other.product_id = kept.product_id AND other.holder = kept.holder
           AND other.dimension = kept.dimension AND other.hour = kept.hour AND kept.state = 'open')",
    // A record that was frozen under the old id where the other has one for that hour too keeps the old id,
    // which goes on working as an alias.
    "UPDATE OR IGNORE metering_records SET customer_id = ?2 WHERE customer_id = ?1",
];

/// Moves everything of `from` to `into`.
pub(super) fn merge_customers_in(
    connection: &Connection,
    from: &CustomerId,
    into: &CustomerId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids = (from.as_str(), into.as_str());
    for statement in RECORD_MOVES.iter().chain(MOVES) {
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
