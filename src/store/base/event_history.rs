//! The outbox backwards, for people: the newest events, of all or of one customer.

use super::outbox::{Event, event};
use crate::domain::CustomerId;
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, Store, StoreError};

impl Store {
    /// Returns the events before a place in the order, the newest first; the newest of all without one. Those about any of
    /// these customers, which may be the ids that one customer has had, or all if none is named.
    pub async fn events_before(
        &self,
        customers: Vec<CustomerId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let before = before.unwrap_or(i64::MAX);
        self.read(move |connection| {
            if customers.is_empty() {
                return all(connection, before, limit).during("list the newest events");
            }
            let mut events = Vec::new();
            for id in &customers {
                let found = of_customer(connection, id, before, limit);
                events.extend(found.during("list a customer's newest events")?);
            }
            events.sort_unstable_by_key(|event| std::cmp::Reverse(event.seq));
            events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(events)
        })
        .await
    }
}

fn all(connection: &Connection, before: i64, limit: u32) -> sql::Result<Vec<Event>> {
    connection
        .prepare_cached("SELECT * FROM events WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2")?
        .query_map((before, limit), event)?
        .collect()
}

fn of_customer(
    connection: &Connection,
    id: &CustomerId,
    before: i64,
    limit: u32,
) -> sql::Result<Vec<Event>> {
    connection
        .prepare_cached(
            "SELECT * FROM events WHERE customer_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
        )?
        .query_map((id.as_str(), before, limit), event)?
        .collect()
}
