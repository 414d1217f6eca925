//! `GET /v1/events`: the feed of what the seller's application is told.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Params, wait};
use super::paging::{fitting, read_page};
use super::{ApiState, Problem, Problems};
use crate::domain::CustomerId;
use crate::domain::event::EventType;
use crate::store::{Event, FeedFilter, FeedPage, History, Waiter};

/// A fallback beside wake-ups: another process may append to the feed.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Feed {
    /// The previous answer's `next_cursor`, or `latest` for events from now on.
    after: Option<String>,
    /// The most events to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// Only events of this type, as `subscription.canceled`; `subscription.*` for all types of a subject.
    r#type: Option<String>,
    /// Only events that tell of this customer, by the id that they name.
    customer_id: Option<CustomerId>,
    /// The time to wait for an event if there is none, as 30s; at most 1m.
    wait: Option<String>,
}

/// Events in order.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    items: Vec<Event>,
    /// The cursor from which to go on.
    next_cursor: String,
}

/// Lists the events after a cursor.
///
/// The oldest comes first. `next_cursor` is there for an empty page too, so that a reader can go on from it; `wait`
/// holds the answer until there is an event. With `type` or `customer_id` only such events are answered, and `next_cursor`
/// is past all that were looked at. `after=latest` begins with what is to come. A cursor that this feed has
/// not given out, as one from before a backup was put back, is answered with 409 `cursor-unknown` and `newest_cursor`; so is
/// one that events were pruned after, with `oldest_cursor` besides.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "listEvents", params(Feed), responses((status = 200, body = Events), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<Feed>,
) -> Result<Json<Events>, Problem> {
    let page = read_page("events", query.limit.as_deref(), None)?;
    let mut after = match query.after.as_deref().filter(|after| !after.is_empty()) {
        None => 0,
        Some("latest") => state.store.newest_event().await?,
        Some(text) => known_cursor(&state, text).await?,
    };
    let types = query.r#type.as_deref().map(types).transpose()?.unwrap_or_default();
    let filter = FeedFilter { types, customer_id: query.customer_id };
    let wait = wait(query.wait.as_deref())?;
    let mut deadline = tokio::time::Instant::now() + wait;
    // Subscribed before the query, so that an event between the two is not missed.
    let mut news = state.store.wakeups().of(Waiter::Events);
    loop {
        news.arm();
        let FeedPage { mut events, looked_to } =
            state.store.feed(filter.clone(), after, page.limit).await?;
        let fit = fitting(&events);
        // What does not fit is looked at again.
        let cut = events.get(fit - 1).filter(|_| fit < events.len()).map(|last| last.seq);
        events.truncate(fit);
        after = cut.unwrap_or(looked_to);
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if !events.is_empty() || left == Duration::ZERO {
            return Ok(Json(Events { items: events, next_cursor: after.to_string() }));
        }
        // The end of the wait, an event and a stop all lead to one more look.
        tokio::select! {
            () = state.stopping.cancelled() => deadline = tokio::time::Instant::now(),
            _ = tokio::time::timeout(left.min(LONGEST_SLEEP), news.woken()) => {}
        }
    }
}

/// Parses a type, or a subject and `.*`.
fn types(pattern: &str) -> Result<Vec<EventType>, Problem> {
    let types = EventType::matching(pattern);
    if types.is_empty() {
        let detail = format!(
            "type {pattern:?} is none: name one, as subscription.canceled, or all of a subject, as subscription.*"
        );
        return Err(Problem::bad_request(detail));
    }
    Ok(types)
}

/// Parses a cursor, and checks that the feed has given it out and still has all that follows it.
pub(super) async fn known_cursor(state: &ApiState, text: &str) -> Result<i64, Problem> {
    let cursor: i64 = text.parse().map_err(|_| {
        Problem::bad_request(
            "a cursor is what this feed answered with as next_cursor; latest is the newest",
        )
    })?;
    let newest = state.store.newest_event().await?;
    if (0..=newest).contains(&cursor) && !state.store.is_lost_cursor(cursor).await? {
        let pruned = state.store.pruned(History::Events).await?.map_or(0, |it| it.until_seq);
        // Whoever begins at 0 begins at what there is.
        if cursor == 0 || cursor >= pruned {
            return Ok(cursor);
        }
        let detail = format!(
            "events after the cursor {cursor} were pruned, since they were older than retention.events. Begin anew from a state that you read now, with after={newest}, or go on with after={pruned}, at the oldest event that is kept"
        );
        return Err(Problem::new(StatusCode::CONFLICT, "cursor-unknown", detail)
            .with("newest_cursor", json!(newest.to_string()))
            .with("oldest_cursor", json!(pruned.to_string())));
    }
    let detail = format!(
        "this feed has not given out the cursor {cursor}: a backup may have been put back since. Begin anew from a state that you read now, with after={newest}, or with after=0 at the oldest event"
    );
    Err(Problem::new(StatusCode::CONFLICT, "cursor-unknown", detail)
        .with("newest_cursor", json!(newest.to_string())))
}
