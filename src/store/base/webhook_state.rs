//! How the webhook stands: what waits in each lane, what the application last answered, and whether a person holds it.

use jiff::Timestamp;

use super::activity::current_actor;
use super::columns::{millis, optional_timestamp, timestamp};
use super::webhook_lanes::{statement, waiting_in};
use super::webhook_place::place_in;
use crate::domain::event::{Lane, PerLane};
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row};
use crate::store::{During, Store, StoreError};

/// Whoever acts where the API has no token.
const LOCAL: &str = "local";

/// How the webhook stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookState {
    /// Each lane.
    pub lanes: PerLane<WebhookLane>,
    /// The time since when a person has it post nothing.
    pub paused_at: Option<Timestamp>,
    /// The name of the token by which that was done.
    pub paused_by: Option<String>,
    /// The time at which the application last took an event.
    pub taken_at: Option<Timestamp>,
    /// The time at which it last refused one.
    pub refused_at: Option<Timestamp>,
    /// The reason that it gave then, in words.
    pub refusal: Option<String>,
    /// The time at which a person last tried it.
    pub tested_at: Option<Timestamp>,
}

/// How far a lane of the webhook is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookLane {
    /// The place up to which every event of it was posted.
    pub cursor: i64,
    /// The events that wait, or a few more: some are posted ahead of others. It is not counted beyond 100,000.
    pub waiting: u64,
    /// The time of the first of them.
    pub oldest_at: Option<Timestamp>,
}

fn state_row(row: &Row<'_>) -> sql::Result<WebhookState> {
    Ok(WebhookState {
        lanes: PerLane::default(),
        paused_at: optional_timestamp(row.get("paused_at_ms")?),
        paused_by: row.get("paused_by")?,
        taken_at: optional_timestamp(row.get("taken_at_ms")?),
        refused_at: optional_timestamp(row.get("refused_at_ms")?),
        refusal: row.get("refusal")?,
        tested_at: optional_timestamp(row.get("tested_at_ms")?),
    })
}

fn lane_in(connection: &Connection, lane: Lane, cursor: i64) -> Result<WebhookLane, StoreError> {
    let oldest_at = connection
        .prepare_cached(statement(lane))
        .and_then(|mut select| select.query_row((cursor, 1), |row| row.get("at_ms")).optional())
        .during("find what the webhook is to post next")?
        .map(timestamp);
    Ok(WebhookLane { cursor, waiting: waiting_in(connection, lane, cursor)?, oldest_at })
}

impl Store {
    /// Returns how the webhook stands.
    pub async fn webhook_state(&self) -> Result<WebhookState, StoreError> {
        self.read(|connection| {
            let Some((place, _)) = place_in(connection)? else {
                return Ok(WebhookState::default());
            };
            let mut state = connection
                .prepare_cached("SELECT * FROM cursors WHERE reader = 'webhook'")
                .and_then(|mut select| select.query_row([], state_row))
                .during("read how the webhook stands")?;
            for lane in Lane::ALL {
                *state.lanes.of_mut(lane) = lane_in(connection, lane, *place.lanes.of(lane))?;
            }
            Ok(state)
        })
        .await
    }

    /// Has the webhook post nothing until it is resumed. One that is paused already stays as it was.
    pub async fn pause_webhook(&self, now: Timestamp) -> Result<(), StoreError> {
        let by = current_actor().map_or_else(|| LOCAL.to_owned(), |actor| actor.name);
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE cursors SET paused_at_ms = ?1, paused_by = ?2
                     WHERE reader = 'webhook' AND paused_at_ms IS NULL",
                )
                .and_then(|mut update| update.execute((millis(now), &by)))
                .map(drop)
                .during("pause the webhook")
        })
        .await
    }

    /// Has the webhook post again, from where it was paused.
    pub async fn resume_webhook(&self) -> Result<(), StoreError> {
        self.write(|connection| {
            connection
                .prepare_cached(
                    "UPDATE cursors SET paused_at_ms = NULL, paused_by = NULL
                     WHERE reader = 'webhook' AND paused_at_ms IS NOT NULL",
                )
                .and_then(|mut update| update.execute([]))
                .map(drop)
                .during("resume the webhook")
        })
        .await
    }

    /// Notes that a person has tried the webhook.
    pub async fn note_webhook_test(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            connection
                .prepare_cached("UPDATE cursors SET tested_at_ms = ?1 WHERE reader = 'webhook'")
                .and_then(|mut update| update.execute([millis(now)]))
                .map(drop)
                .during("note that the webhook was tried")
        })
        .await
    }
}
