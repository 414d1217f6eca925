//! The outbox: what the seller's application is told, in order, written with the change it tells of.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::columns::{millis, timestamp};
use crate::domain::CustomerId;
use crate::domain::event::EventType;
use crate::store::engine::sql::{self, Connection, Row, named_params};
use crate::store::{During, Store, StoreError};

/// One event of the outbox.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// Its place in the order; also the cursor.
    #[serde(skip)]
    pub seq: i64,
    /// Its id, the same in the feed and in the webhook.
    pub id: String,
    /// The kind of event, as `subject.verb`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The time.
    pub at: Timestamp,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// The subject as it stands after the event.
    pub data: Value,
}

/// Makes the id of an event.
pub fn new_event_id() -> String {
    format!("evt_{}", Uuid::now_v7().simple())
}

/// Appends an event in the transaction of the change that it tells of.
pub(crate) fn append_event_in(
    connection: &Connection,
    kind: EventType,
    customer_id: Option<&CustomerId>,
    data: &impl Serialize,
    at: Timestamp,
) -> Result<(), StoreError> {
    insert_in(connection, kind, customer_id, &written(data)?, at)
}

/// Returns the data of an event as it is kept.
fn written(data: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(data)
        .map_err(|error| StoreError::Corrupt { what: "an event", detail: error.to_string() })
}

fn insert_in(
    connection: &Connection,
    kind: EventType,
    customer_id: Option<&CustomerId>,
    data: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    // FAIL, not ABORT, as all of the write is undone anyway: see `create_unclaimed_in`.
    connection
        .prepare_cached(
            "INSERT OR FAIL INTO events (id, type, at_ms, customer_id, data)
             VALUES (:id, :type, :at, :customer, :data)",
        )
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":id": new_event_id(),
                ":type": kind.as_str(),
                ":at": millis(at),
                ":customer": customer_id.map(CustomerId::as_str),
                ":data": data,
            })
        })
        .during("append an event")?;
    Ok(())
}

/// Returns the newest place that the outbox has given out, also of events that were pruned since.
///
/// A server's sequence is of no moment: it counts events that are not committed yet, which a reader who takes their places
/// for read never sees. Turns are committed in the order of their events, so that the greatest place is the newest.
pub(super) fn newest_in(connection: &Connection) -> sql::Result<i64> {
    const NEWEST: &str = "SELECT max(place) FROM (SELECT coalesce(max(seq), 0) AS place FROM events
         UNION ALL SELECT coalesce(max(until_seq), 0) FROM pruned WHERE kind = 'events') AS places";
    if connection.is_remote() {
        return connection.query_row(NEWEST, [], |row| row.get(0));
    }
    connection.last_number("events")
}

impl Store {
    /// Appends an event that tells of no change in the database.
    pub async fn tell(
        &self,
        kind: EventType,
        data: &impl Serialize,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let data = written(data)?;
        self.write(move |connection| insert_in(connection, kind, None, &data, at)).await
    }

    /// Returns the newest place that the outbox has given out.
    pub async fn newest_event(&self) -> Result<i64, StoreError> {
        self.read(|connection| newest_in(connection).during("read the newest event")).await
    }

    /// Returns the events after a place in the order.
    pub async fn events_after(&self, seq: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT * FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2")
                .and_then(|mut select| select.query_map((seq, limit), event)?.collect())
                .during("list events")
        })
        .await
    }
}

pub(super) fn event(row: &Row<'_>) -> sql::Result<Event> {
    let data: String = row.get("data")?;
    Ok(Event {
        seq: row.get("seq")?,
        id: row.get("id")?,
        kind: row.get("type")?,
        at: timestamp(row.get("at_ms")?),
        customer_id: row.get::<_, Option<String>>("customer_id")?.map(CustomerId::new),
        data: serde_json::from_str(&data).unwrap_or(Value::Null),
    })
}
