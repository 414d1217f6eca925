//! Notifications as they came, and events as they are told.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Params, Path, foreign_cursor, items, one_more, page, wait};
use super::{ApiState, Problem};
use crate::store::NotificationRow;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    limit: Option<String>,
    cursor: Option<String>,
    state: Option<String>,
}

const STATES: [&str; 3] = ["applied", "pending", "quarantined"];

pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Value>, Problem> {
    if query.state.as_deref().is_some_and(|word| !STATES.contains(&word)) {
        return Err(Problem::bad_request(format!("state is one of {}", STATES.join(", "))));
    }
    let page = page(query.limit.as_deref(), query.cursor.as_deref())?;
    // Read as the start of the list, a foreign cursor would lead a reader around for ever.
    if page.after.as_deref().is_some_and(|key| key.parse::<i64>().is_err()) {
        return Err(foreign_cursor());
    }
    let rows = state.store.notifications(query.state, one_more(&page)).await?;
    Ok(Json(items(rows, page.limit, |row| row.seq.to_string())))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<NotificationRow>, Problem> {
    let found = state.store.notification(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("notification", &id))
}

pub(super) async fn replay(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<NotificationRow>, Problem> {
    let found = state.store.replay_notification(id.clone(), state.clock.now()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("notification", &id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feed {
    after: Option<String>,
    limit: Option<String>,
    wait: Option<String>,
}

/// The events after a cursor. The answer's cursor is always there, so that a reader can go on from an empty
/// page too.
pub(super) async fn events(
    State(state): State<ApiState>,
    Params(query): Params<Feed>,
) -> Result<Json<Value>, Problem> {
    let page = page(query.limit.as_deref(), None)?;
    let after: i64 = match query.after.as_deref().filter(|after| !after.is_empty()) {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            Problem::bad_request("after is a cursor that this feed answered with as next_cursor")
        })?,
    };
    let wait = wait(query.wait.as_deref())?;
    let deadline = tokio::time::Instant::now() + wait;
    // Subscribed before the query, so that an event between the two is not missed.
    let mut changes = state.store.nudges().events.subscribe();
    loop {
        let events = state.store.events_after(after, page.limit).await?;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if !events.is_empty() || left == Duration::ZERO {
            let cursor = events.last().map_or(after, |event| event.seq);
            return Ok(Json(json!({"items": events, "next_cursor": cursor.to_string()})));
        }
        // An end of the wait and an event both lead to one more look.
        tokio::time::timeout(left, changes.changed()).await.ok();
    }
}
