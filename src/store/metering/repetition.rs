//! Repetitions: an event that was taken before stays taken, and its id is that event's alone.

use crate::domain::CustomerId;
use crate::domain::usage::{Fingerprint, UsageEvent};
use crate::store::base::aliases::canonical_in;
use crate::store::base::columns::millis;
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, StoreError};

const HELD: &str = "SELECT fingerprint, customer_id, CASE WHEN timed = 1 THEN at_ms END FROM usage_events WHERE id = ?1";

/// The reason why an event is not taken: its code, and words for a person.
pub(crate) type Refusal = (&'static str, String);

/// An event that was taken before, as far as a repetition is told by it.
pub(crate) struct KnownEvent {
    fingerprint: Vec<u8>,
    customer: CustomerId,
    /// The time of use, if the application said one.
    timed_ms: Option<i64>,
}

impl KnownEvent {
    /// Makes what is known of an event that was just taken, of a customer by this id.
    pub(super) fn of(event: &UsageEvent, fingerprint: &Fingerprint, customer: &CustomerId) -> Self {
        Self {
            fingerprint: fingerprint.as_bytes().to_vec(),
            customer: customer.clone(),
            timed_ms: event.timestamp.map(millis),
        }
    }
}

/// Refuses an event unless it was taken before: then it stays taken, whatever would be said of it today.
pub(crate) fn known_or_in<R: From<Refusal>>(
    connection: &Connection,
    event: &UsageEvent,
    fingerprint: &Fingerprint,
    refusal: R,
) -> Result<Result<(), R>, StoreError> {
    let held = held_in(connection, &event.id)?;
    known_or(connection, event, fingerprint, held.as_ref(), refusal)
}

/// Does the same with the event that is held under its id, if one is.
pub(super) fn known_or<R: From<Refusal>>(
    connection: &Connection,
    event: &UsageEvent,
    fingerprint: &Fingerprint,
    held: Option<&KnownEvent>,
    refusal: R,
) -> Result<Result<(), R>, StoreError> {
    match held {
        Some(held) if repeats_in(connection, event, fingerprint, held)? => Ok(Ok(())),
        Some(_) => {
            let detail =
                "another event was reported under this id; give each event an id of its own";
            Ok(Err(("conflicting_duplicate", detail.to_owned()).into()))
        }
        None => Ok(Err(refusal)),
    }
}

/// Reports whether an event is the one held under its id: of the same customer by whatever id of theirs, and
/// of the same time where both say when.
fn repeats_in(
    connection: &Connection,
    event: &UsageEvent,
    fingerprint: &Fingerprint,
    held: &KnownEvent,
) -> Result<bool, StoreError> {
    let same_time = match (held.timed_ms, event.timestamp) {
        (Some(held), Some(said)) => held == millis(said),
        _ => true,
    };
    if held.fingerprint != fingerprint.as_bytes() || !same_time {
        return Ok(false);
    }
    if held.customer == event.customer_id {
        return Ok(true);
    }
    let is_now = canonical_in(connection, &held.customer)?;
    Ok(is_now.is_some() && is_now == canonical_in(connection, &event.customer_id)?)
}

/// Asks ahead for what [`held_in`] reads.
pub(super) fn ask_held(connection: &Connection, id: &str) -> Result<(), StoreError> {
    connection.ask_ahead(HELD, &[id]).during("look up a usage event")
}

/// Returns the event that is held under an id.
pub(super) fn held_in(connection: &Connection, id: &str) -> Result<Option<KnownEvent>, StoreError> {
    connection
        .prepare_cached(HELD)
        .and_then(|mut select| {
            select
                .query_row([id], |row| {
                    Ok(KnownEvent {
                        fingerprint: row.get(0)?,
                        customer: CustomerId::new(row.get::<_, String>(1)?),
                        timed_ms: row.get(2)?,
                    })
                })
                .optional()
        })
        .during("look up a usage event")
}
