//! Notifications: recorded once each, with what they say, in the same transaction as the mark on the buyer.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::record::{NotificationOutcome, record_facts};
use crate::domain::ProductCode;
use crate::domain::event::EventType;
use crate::domain::event::data::NotificationQuarantined;
use crate::domain::notification::Notification;
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{self, Connection, OptionalExtension, named_params};
use crate::store::{During, Store, StoreError};

/// A message that came in, read or not.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A notification.
    Notification(Box<Notification>),
    /// A body that nobody can read; kept whole.
    Unreadable {
        /// An id by which repetitions are recognised.
        id: String,
        /// The body.
        body: String,
        /// The reason why it cannot be read.
        reason: String,
    },
    /// A body that is not known to be AWS's; kept whole, and never applied as it is.
    Untrusted {
        /// An id by which repetitions are recognised.
        id: String,
        /// The body.
        body: String,
        /// The reason why it is not trusted.
        reason: String,
    },
}

/// The format and kind of what is not trusted. Kept with the message, so that reading it again does not turn it into
/// news.
const UNTRUSTED: &str = "untrusted";

/// The result of recording a batch of incoming messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The number of messages seen for the first time and readable.
    pub new: usize,
    /// The number of messages seen before.
    pub duplicates: usize,
    /// The number of messages seen for the first time and not readable, or not trusted.
    pub quarantined: usize,
}

impl Recorded {
    pub(crate) fn add(&mut self, other: Self) {
        self.new += other.new;
        self.duplicates += other.duplicates;
        self.quarantined += other.quarantined;
    }
}

/// A person's decision to discard a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NotificationDiscard)]
pub struct Discard {
    /// The time.
    pub at: Timestamp,
    /// The name of the token by which it was discarded; `local` where the API has none.
    pub actor: String,
    /// The reason that was given.
    pub note: String,
}

/// A notification as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NotificationRow {
    /// Its id.
    pub id: String,
    /// The wire format.
    pub format: String,
    /// The action or detail-type.
    pub kind: String,
    /// `applied`, `pending`, `quarantined` or `discarded`.
    pub state: String,
    /// The reason why it is pending or quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The product that it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<String>,
    /// Its own time.
    pub at: Timestamp,
    /// The time at which it was first received.
    pub received_at: Timestamp,
    /// The number of times that it was received.
    pub copies: i64,
    /// The decision of the person who discarded it. It stays when the notification is replayed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard: Option<Discard>,
    /// The message as it came: JSON where it is, else text; null once it was erased.
    pub body: Value,
    /// The time at which the body was erased, since it named a customer who was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    #[serde(skip)]
    pub(crate) seq: i64,
}

impl NotificationRow {
    /// Reports whether it is quarantined because nobody knows it to be AWS's.
    pub(crate) fn is_untrusted(&self) -> bool {
        self.format == UNTRUSTED
    }

    /// Returns the message as text.
    pub(crate) fn text(&self) -> String {
        match &self.body {
            Value::String(text) => text.clone(),
            document => document.to_string(),
        }
    }
}

impl Store {
    /// Records a batch: each message once, with the facts that it tells and the mark on its buyer. `Ok`
    /// means that all of it is on disk, so that the batch may leave the queue. What says something that the database
    /// refuses is quarantined, since it would come back for ever.
    pub async fn record_notifications(
        &self,
        batch: Vec<Incoming>,
        now: Timestamp,
    ) -> Result<Recorded, StoreError> {
        let apart = self
            .write_isolated(batch, move |connection, batch| {
                let mut recorded = Recorded::default();
                for incoming in batch {
                    record(connection, incoming, None, now, &mut recorded)?;
                }
                Ok(recorded)
            })
            .await?;
        let mut recorded = Recorded::default();
        for part in apart.done {
            recorded.add(part);
        }
        for (incoming, error) in apart.refused {
            let why = format!("what it says cannot be taken over: {}", error.in_full());
            tracing::error!(why, "a notification is quarantined; please report it");
            let set_aside = self.write(move |connection| {
                let mut recorded = Recorded::default();
                record(connection, &incoming, Some(why.clone()), now, &mut recorded)?;
                Ok::<_, StoreError>(recorded)
            });
            recorded.add(set_aside.await?);
        }
        Ok(recorded)
    }

    /// Counts the notifications in each state.
    pub async fn notification_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT state, count(*) FROM notifications GROUP BY state")
                .during("count notifications")?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .during("count notifications")?;
            rows.collect::<Result<_, _>>().during("count notifications")
        })
        .await
    }

    /// Returns the time at which the newest notification was received.
    pub async fn last_received_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT received_at_ms FROM notifications ORDER BY seq DESC LIMIT 1",
                )
                .and_then(|mut select| select.query_row([], |row| row.get(0)).optional())
                .map(optional_timestamp)
                .during("read when the last message came")
        })
        .await
    }

    /// Returns a notification, if there is one of this id.
    pub async fn notification(&self, id: String) -> Result<Option<NotificationRow>, StoreError> {
        self.read(move |connection| notification_in(connection, &id)).await
    }

    /// Reads a kept notification once more, as if it had just come; none if there is no such one. Whether one that is
    /// not trusted may be read is for the SNS endpoint to find out.
    pub(crate) async fn replay_notification(
        &self,
        id: String,
        now: Timestamp,
    ) -> Result<Option<NotificationRow>, StoreError> {
        self.write(move |connection| {
            let Some(row) = notification_in(connection, &id)? else {
                return Ok(None);
            };
            replay_in(connection, &row, now)?;
            notification_in(connection, &id)
        })
        .await
    }
}

/// Reads a kept message again and takes over what it says.
pub(crate) fn replay_in(
    connection: &Connection,
    row: &NotificationRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    let body = row.text();
    let delivery = crate::domain::notification::wire::Delivery {
        body: &body,
        transport_id: &row.id,
        sent_at: row.at,
    };
    let notification = match crate::domain::notification::wire::read(delivery) {
        Ok(notification) => notification,
        // It stays where it is, with the fault that is found in it by now.
        Err(unreadable) => {
            return NotificationOutcome::quarantined(unreadable.reason).write(connection, row.seq);
        }
    };
    let settled = record_facts(connection, &notification.meaning, notification.at, now)?;
    settled.write(connection, row.seq)?;
    connection
        .prepare_cached("UPDATE notifications SET format = ?2, kind = ?3 WHERE seq = ?1")
        .and_then(|mut update| {
            update.execute((row.seq, notification.format.as_str(), &notification.kind))
        })
        .during("replay a notification")?;
    Ok(())
}

pub(super) fn notification_in(
    connection: &Connection,
    id: &str,
) -> Result<Option<NotificationRow>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM notifications WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], notification_row).optional())
        .during("read a notification")
}

pub(crate) fn notification_row(row: &sql::Row<'_>) -> sql::Result<NotificationRow> {
    let body: String = row.get("body")?;
    Ok(NotificationRow {
        id: row.get("id")?,
        format: row.get("format")?,
        kind: row.get("kind")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        product_code: row.get("product_code")?,
        at: timestamp(row.get("at_ms")?),
        received_at: timestamp(row.get("received_at_ms")?),
        copies: row.get("copies")?,
        discard: discard(row)?,
        erased_at: optional_timestamp(row.get("erased_at_ms")?),
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
        seq: row.get("seq")?,
    })
}

fn discard(row: &sql::Row<'_>) -> sql::Result<Option<Discard>> {
    let Some(at) = optional_timestamp(row.get("discarded_at_ms")?) else {
        return Ok(None);
    };
    Ok(Some(Discard { at, actor: row.get("discarded_by")?, note: row.get("discard_note")? }))
}

/// Records a message; what it says is taken over unless there is a reason not to.
fn record(
    connection: &Connection,
    incoming: &Incoming,
    refused: Option<String>,
    now: Timestamp,
    recorded: &mut Recorded,
) -> Result<(), StoreError> {
    let (id, format, kind, at, body) = match incoming {
        Incoming::Notification(it) => {
            (&it.id, it.format.as_str(), it.kind.as_str(), it.at, &it.body)
        }
        Incoming::Unreadable { id, body, .. } => (id, "unreadable", "unreadable", now, body),
        Incoming::Untrusted { id, body, .. } => (id, UNTRUSTED, UNTRUSTED, now, body),
    };
    let repeated = connection
        .prepare_cached("UPDATE notifications SET copies = copies + 1 WHERE id = ?1")
        .and_then(|mut update| update.execute([id]))
        .during("count a repeated notification")?;
    if repeated > 0 {
        recorded.duplicates += 1;
        return Ok(());
    }
    let quarantined = |recorded: &mut Recorded, reason: String| {
        recorded.quarantined += 1;
        let data = NotificationQuarantined { id, kind, bytes: body.len(), reason: &reason };
        append_event_in(connection, EventType::NotificationQuarantined, None, &data, now)?;
        Ok::<_, StoreError>(NotificationOutcome::quarantined(reason))
    };
    let settled = match (incoming, refused) {
        (_, Some(reason)) => quarantined(recorded, reason)?,
        (Incoming::Unreadable { reason, .. } | Incoming::Untrusted { reason, .. }, None) => {
            quarantined(recorded, reason.clone())?
        }
        (Incoming::Notification(it), None) => {
            recorded.new += 1;
            record_facts(connection, &it.meaning, it.at, now)?
        }
    };
    let NotificationOutcome { state, reason, product_code, buyer } = settled;
    connection
        .prepare_cached(
            "INSERT INTO notifications (id, format, kind, at_ms, received_at_ms, body, state, reason,
                 product_code, buyer)
             VALUES (:id, :format, :kind, :at, :received, :body, :state, :reason, :product, :buyer)",
        )
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":id": id,
                ":format": format,
                ":kind": kind,
                ":at": millis(at),
                ":received": millis(now),
                ":body": body,
                ":state": state,
                ":reason": reason,
                ":product": product_code.as_ref().map(ProductCode::as_str),
                ":buyer": buyer,
            })
        })
        .during("record a notification")?;
    Ok(())
}
