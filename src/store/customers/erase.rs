//! Erasing who a customer is. What billing needs goes on under an opaque id: subscriptions, metering records, what was
//! used, and the ids by which AWS is told of it.
//!
//! Who they are goes in one transaction, with the event. The old ids lead to the opaque one until `erase_history` has
//! taken them out of history, piece by piece.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::rows::customer_in;
use crate::domain::api_token::LOCAL;
use crate::domain::event::EventType;
use crate::domain::{Customer, CustomerId};
use crate::store::base::activity::current_actor;
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::postgres::turn_changes::name_nobody;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// The reason why a customer could not be erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// There is no such customer.
    #[error("there is no customer {0}")]
    Unknown(CustomerId),
    /// Subscriptions of it live.
    #[error(
        "customer {id} has live subscriptions ({}): end them first, or erase it by force, which leaves them to AWS and to you under the opaque id",
        .subscriptions.join(", ")
    )]
    Subscribed {
        /// The customer.
        id: CustomerId,
        /// The subscriptions.
        subscriptions: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Erases who a customer is, and returns what is left of it, by its opaque id. If a customer's subscriptions live,
    /// only by force. The same again goes on with what a stop has left over.
    pub async fn erase_customer(
        &self,
        id: CustomerId,
        force: bool,
        now: Timestamp,
    ) -> Result<Customer, EraseError> {
        let erased = self.write(move |connection| erase_in(connection, &id, force, now)).await?;
        self.finish_erasure(&erased, now).await?;
        let id = erased.clone();
        let left = self.read(move |connection| customer_in(connection, &id)).await?;
        let actor = current_actor().map_or_else(|| LOCAL.to_owned(), |actor| actor.name);
        tracing::info!(actor, customer.id = erased.as_str(), "a customer was erased");
        left.ok_or(EraseError::Unknown(erased))
    }
}

/// The statements that move all that billing needs to the opaque id. Usage events are history, which goes in pieces.
const MOVES: &[&str] = &[
    "UPDATE subscriptions SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE metering_records SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE usage_hours SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE identities SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE customer_aliases SET customer_id = ?2 WHERE customer_id = ?1",
    "UPDATE contradictions SET customer_id = ?2, detail = 'it was erased who the customer is' WHERE customer_id = ?1",
    // Sign-ups that were not exchanged are known by AWS's ids alone.
    "UPDATE registrations SET claimed_by_browser = '{}' WHERE customer_id = ?1 OR exchanged_at_ms IS NULL AND (
         account_id IN (SELECT value FROM identities WHERE customer_id = ?2 AND kind = 'account_id')
         OR customer_identifier IN (
             SELECT value FROM identities WHERE customer_id = ?2 AND kind = 'customer_identifier'))",
    "UPDATE registrations SET customer_id = ?2 WHERE customer_id = ?1",
    "DELETE FROM customers WHERE id = ?1 AND ?2 <> ?1",
    "INSERT INTO customer_aliases (alias, customer_id) VALUES (?1, ?2)",
];

pub(super) fn erase_in(
    connection: &Connection,
    id: &CustomerId,
    force: bool,
    now: Timestamp,
) -> Result<CustomerId, EraseError> {
    let unknown = || EraseError::Unknown(id.clone());
    let id = canonical_in(connection, id)?.ok_or_else(unknown)?;
    let customer = customer_in(connection, &id)?.ok_or_else(unknown)?;
    // Whoever asks again may have had no answer. What was named anew since is somebody again.
    if customer.erased_at.is_some() {
        return Ok(id);
    }
    let subscriptions = live_in(connection, &id)?;
    if !force && !subscriptions.is_empty() {
        return Err(EraseError::Subscribed { id, subscriptions });
    }
    let erased = CustomerId::new(format!("erased-{}", Uuid::new_v4().simple()));
    let words = words_in(connection, &customer)?;
    connection
        .prepare_cached(
            "INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms, erased_at_ms)
             SELECT ?2, claimed, created_at_ms, ?3, ?3 FROM customers WHERE id = ?1",
        )
        .and_then(|mut insert| insert.post((id.as_str(), erased.as_str(), millis(now))))
        .during("make what is left of a customer")?;
    for statement in MOVES {
        connection
            .prepare_cached(statement)
            .and_then(|mut change| change.post((id.as_str(), erased.as_str())))
            .during("move what billing needs of a customer")?;
    }
    connection
        .prepare_cached("INSERT INTO erasures (customer_id, words) VALUES (?1, ?2)")
        .and_then(|mut insert| {
            insert.execute((erased.as_str(), serde_json::json!(words).to_string()))
        })
        .during("begin an erasure")?;
    let mut left = customer_in(connection, &erased)?.ok_or_else(unknown)?;
    // They go once history is done; the event is kept.
    left.aliases.clear();
    append_event_in(connection, EventType::CustomerErased, Some(&erased), &left, now)?;
    Ok(erased)
}

/// Returns the subscriptions of a customer that live.
fn live_in(connection: &Connection, id: &CustomerId) -> Result<Vec<String>, StoreError> {
    connection
        .prepare_cached(
            "SELECT id FROM subscriptions WHERE customer_id = ?1 AND ended_at_ms IS NULL
                 AND status IN ('pending', 'trialing', 'active', 'ending')
             ORDER BY id",
        )
        .and_then(|mut select| select.query_map([id.as_str()], |row| row.get(0))?.collect())
        .during("look for live subscriptions")
}

/// Returns what names a customer in the bodies of messages: its name and mail, and AWS's ids of it.
fn words_in(connection: &Connection, customer: &Customer) -> Result<BTreeSet<String>, StoreError> {
    let mut words: BTreeSet<String> = [&customer.name, &customer.email]
        .into_iter()
        .flatten()
        .chain([&customer.id.as_str().to_owned()])
        .cloned()
        .collect();
    let mut select = connection
        .prepare_cached(
            "SELECT value FROM identities WHERE customer_id = ?1
             UNION SELECT account_id FROM subscriptions WHERE customer_id = ?1
             UNION SELECT customer_identifier FROM subscriptions WHERE customer_id = ?1
             UNION SELECT license_arn FROM subscriptions WHERE customer_id = ?1
             UNION SELECT agreement_id FROM subscriptions WHERE customer_id = ?1",
        )
        .during("read what names a customer")?;
    let told = select
        .query_map([customer.id.as_str()], |row| row.get::<_, Option<String>>(0))
        .during("read what names a customer")?;
    for word in told {
        words.extend(word.during("read what names a customer")?);
    }
    Ok(words)
}

/// Returns the words of an erasure that is under way.
pub(super) fn erasure_in(
    connection: &Connection,
    erased: &CustomerId,
) -> Result<Option<Vec<String>>, StoreError> {
    let words = connection
        .prepare_cached("SELECT words FROM erasures WHERE customer_id = ?1")
        .and_then(|mut select| {
            select.query_row([erased.as_str()], |row| row.get::<_, String>(0)).optional()
        })
        .during("read an erasure")?;
    Ok(words.map(|words| serde_json::from_str(&words).unwrap_or_default()))
}

/// Ends an erasure: nothing leads to the opaque id any more.
pub(super) fn end_erasure_in(
    connection: &Connection,
    erased: &CustomerId,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM customer_aliases WHERE customer_id = ?1",
        "DELETE FROM erasures WHERE customer_id = ?1",
    ] {
        connection
            .prepare_cached(statement)
            .and_then(|mut delete| delete.post([erased.as_str()]))
            .during("end an erasure")?;
    }
    name_nobody(connection).during("end an erasure")
}
