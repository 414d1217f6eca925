//! Two customers become one: everything of the one moves to the other, and its id stays as an alias.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::rows::customer_in;
use crate::domain::CustomerId;
use crate::domain::event::EventType;
use crate::domain::event::data::CustomerMerged;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::metering::merge::join_records_in;
use crate::store::metering::rerate::{CountedChains, rate_anew_in};
use crate::store::{During, StoreError};

/// Moves what names a customer; of the hours that both have used something in, the sums are added. Usage events and the outbox are history and
/// grow without bound: they keep the id they were written with, which goes on leading here as an alias.
const MOVES: &[&str] = &[
    "UPDATE subscriptions SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE identities SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE registrations SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE customer_aliases SET customer_id = ?2 WHERE customer_id = ?1",
    "INSERT INTO usage_hours (customer_id, feature_id, product_id, holder, from_ms, quantity, billed)
         SELECT ?2, feature_id, product_id, holder, from_ms, quantity, billed FROM usage_hours WHERE customer_id = ?1
         ON CONFLICT (customer_id, feature_id, product_id, holder, from_ms) DO UPDATE SET
             quantity = usage_hours.quantity + excluded.quantity, billed = usage_hours.billed + excluded.billed",
    "DELETE FROM usage_hours WHERE customer_id = ?1 AND ?2 <> ?1",
];

/// Moves everything of `from` to `into`.
pub(crate) fn merge_customers_in(
    connection: &Connection,
    from: &CustomerId,
    into: &CustomerId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids = (from.as_str(), into.as_str());
    let lost = merge_profile_in(connection, from, into)?;
    let mut counted = CountedChains::of(connection, from)?;
    counted.extend(CountedChains::of(connection, into)?);
    join_records_in(connection, from, into, now)?;
    for statement in MOVES {
        connection
            .prepare_cached(statement)
            .and_then(|mut update| update.post(ids))
            .during("move a customer's history")?;
    }
    connection
        .prepare_cached("DELETE FROM customers WHERE id = ?1")
        .and_then(|mut delete| delete.execute([from.as_str()]))
        .during("join two customers")?;
    connection
        .prepare_cached("INSERT INTO customer_aliases (alias, customer_id) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(ids))
        .during("join two customers")?;
    rate_anew_in(connection, into, &counted, now)?;
    let data = CustomerMerged { id: into, merged: from, lost };
    append_event_in(connection, EventType::CustomerMerged, Some(into), &data, now)
}

/// Merges the seller's data of both; where they differ, that of `into` counts. Returns the data that does not count.
fn merge_profile_in(
    connection: &Connection,
    from: &CustomerId,
    into: &CustomerId,
) -> Result<Map<String, Value>, StoreError> {
    let mut lost = Map::new();
    let (Some(other), Some(kept)) =
        (customer_in(connection, from)?, customer_in(connection, into)?)
    else {
        return Ok(lost);
    };
    let words = [("name", &kept.name, &other.name), ("email", &kept.email, &other.email)];
    for (what, kept, other) in words {
        if let (Some(kept), Some(other)) = (kept, other)
            && kept != other
        {
            lost.insert(what.to_owned(), json!(other));
        }
    }
    let mut metadata = kept.metadata;
    let mut lost_notes = Map::new();
    for (key, value) in other.metadata {
        match metadata.get(&key) {
            None => drop(metadata.insert(key, value)),
            Some(kept) if *kept != value => drop(lost_notes.insert(key, value)),
            Some(_) => {}
        }
    }
    if !lost_notes.is_empty() {
        lost.insert("metadata".to_owned(), Value::Object(lost_notes));
    }
    connection
        .prepare_cached(
            "UPDATE customers SET name = coalesce(name, ?2), email = coalesce(email, ?3), metadata = ?4,
                 created_at_ms = least(created_at_ms, CAST(?5 AS BIGINT)) WHERE id = ?1",
        )
        .and_then(|mut update| {
            let metadata = Value::Object(metadata).to_string();
            let first_known = millis(other.created_at);
            update.post((into.as_str(), other.name, other.email, metadata, first_known))
        })
        .during("join two customers")?;
    Ok(lost)
}
