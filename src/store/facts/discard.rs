//! Discarding: a person's decision that a message in quarantine is nobody's news.

use jiff::Timestamp;

use super::inbox::{Discard, NotificationRow, notification_in};
use crate::domain::api_token::LOCAL;
use crate::domain::event::EventType;
use crate::domain::event::data::NotificationDiscarded;
use crate::store::base::activity::current_actor;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{Connection, named_params};
use crate::store::{During, Store, StoreError};

/// The reason why a notification could not be discarded.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// There is no such notification.
    #[error("there is no notification {0}")]
    Unknown(String),
    /// It is not in quarantine: nobody has to decide on it.
    #[error("notification {id} is {state}; only quarantined ones are for a person to discard")]
    NotQuarantined {
        /// The notification.
        id: String,
        /// Its state.
        state: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes a message out of quarantine without applying it. It stays readable, and can be replayed.
    pub async fn discard_notification(
        &self,
        id: String,
        note: String,
        now: Timestamp,
    ) -> Result<NotificationRow, DiscardError> {
        let actor = current_actor().map_or_else(|| LOCAL.to_owned(), |actor| actor.name);
        let discard = Discard { at: now, actor: actor.clone(), note };
        let discarded = self.write(move |connection| discard_in(connection, &id, &discard)).await?;
        let id = &discarded.id;
        tracing::info!(actor, notification.id = id, "a quarantined message was discarded");
        Ok(discarded)
    }
}

fn discard_in(
    connection: &Connection,
    id: &str,
    discard: &Discard,
) -> Result<NotificationRow, DiscardError> {
    let unknown = || DiscardError::Unknown(id.to_owned());
    let row = notification_in(connection, id)?.ok_or_else(unknown)?;
    if row.state != "quarantined" {
        return Err(DiscardError::NotQuarantined { id: row.id, state: row.state });
    }
    connection
        .prepare_cached(
            "UPDATE notifications SET state = 'discarded', discarded_at_ms = :at, discarded_by = :actor,
                 discard_note = :note
             WHERE seq = :seq",
        )
        .and_then(|mut update| {
            update.post(named_params! {
                ":at": millis(discard.at),
                ":actor": discard.actor,
                ":note": discard.note,
                ":seq": row.seq,
            })
        })
        .during("discard a notification")?;
    let told = NotificationDiscarded {
        id: &row.id,
        kind: &row.kind,
        actor: &discard.actor,
        note: &discard.note,
    };
    append_event_in(connection, EventType::NotificationDiscarded, None, &told, discard.at)?;
    notification_in(connection, id)?.ok_or_else(unknown)
}
