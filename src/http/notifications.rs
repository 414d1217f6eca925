//! Notifications as they came from AWS, and the feed of events.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params, Path, wait};
use super::paging::{Items, ListPage, fitting, read_large, read_page};
use super::{ApiState, Problem, Problems};
use crate::diagnosis::{Diagnosis, Quarantine};
use crate::intake::sns::{Refusal, SnsError};
use crate::store::{
    Event, History, Listed, NotificationFilter, NotificationRow, Order, Span, Waiter,
};

/// A fallback beside wake-ups: another process may append to the feed.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most notifications to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    state: Option<String>,
    /// The action or detail-type, as `subscribe-success`.
    kind: Option<String>,
    product_code: Option<String>,
    /// The order of receipt: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only what was received from this time on.
    since: Option<Timestamp>,
    /// Only what was received before this time.
    until: Option<Timestamp>,
}

const STATES: [&str; 3] = ["applied", "pending", "quarantined"];

/// A notification, with what to do about it while it is in quarantine.
#[derive(Serialize, ToSchema)]
pub(super) struct NotificationView {
    #[serde(flatten)]
    notification: NotificationRow,
    /// What its quarantine means, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<Diagnosis>,
}

impl NotificationView {
    fn of(notification: NotificationRow) -> Self {
        let diagnosis = Quarantine::of(&notification).map(Quarantine::diagnosis);
        Self { notification, diagnosis }
    }
}

/// Lists notifications from AWS.
///
/// They are returned as they came; the last to come is the first, unless `order` says otherwise.
#[utoipa::path(get, path = "/v1/notifications", tag = "notifications", operation_id = "listNotifications", params(List), responses((status = 200, body = Items<NotificationView>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Items<NotificationView>>, Problem> {
    if query.state.as_deref().is_some_and(|word| !STATES.contains(&word)) {
        return Err(Problem::bad_request(format!("state is one of {}", STATES.join(", "))));
    }
    let order = query.order.unwrap_or_default();
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    let page = ListPage::in_order("notifications", order, limit, cursor)?;
    let filter = NotificationFilter {
        state: query.state,
        kind: query.kind,
        product_code: query.product_code,
        span: Span { since: query.since, until: query.until },
    };
    let key = |row: &NotificationRow| row.seq.to_string();
    let read = |part| state.store.notifications(filter.clone(), order, part);
    let Listed { rows, looked_until } = read_large(page.asked(), key, read).await?;
    let rows = rows.into_iter().map(NotificationView::of).collect();
    let views = Listed { rows, looked_until };
    Ok(page.listed(views, |view: &NotificationView| key(&view.notification)))
}

/// Returns a notification.
///
/// Includes its body as it came.
#[utoipa::path(get, path = "/v1/notifications/{id}", tag = "notifications", operation_id = "showNotification", params(("id" = String, Path)), responses((status = 200, body = NotificationView), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<NotificationView>, Problem> {
    let found = state.store.notification(id.clone()).await?;
    let view = found.map(NotificationView::of);
    view.map(Json).ok_or_else(|| Problem::not_found("notification", &id))
}

/// Processes a kept notification again.
///
/// One that still cannot be read is answered as it is: `quarantined`, with the reason. A notification that was quarantined because it is not known to be AWS's is checked anew, and stays in quarantine
/// (409) unless the check passes now.
#[utoipa::path(post, path = "/v1/notifications/{id}/replay", tag = "notifications", operation_id = "replayNotification", params(("id" = String, Path)), responses((status = 200, body = NotificationView), Problems))]
pub(super) async fn replay(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<NotificationView>, Problem> {
    let found = state.sns.replay(&id).await.map_err(|error| match error {
        SnsError::Store(error) => error.into(),
        SnsError::Refused(Refusal::Unreachable(detail)) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "aws-unavailable", detail)
        }
        SnsError::Refused(refusal) => {
            let detail = format!(
                "notification {id} is not known to be AWS's and is not applied: {refusal}. If it is, have AWS send it again; what it would tell of a buyer is also found by the sweep"
            );
            Problem::new(StatusCode::CONFLICT, "notification-untrusted", detail)
        }
    })?;
    let view = found.map(NotificationView::of);
    view.map(Json).ok_or_else(|| Problem::not_found("notification", &id))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Feed {
    /// The previous answer's `next_cursor`, or `latest` for events from now on.
    after: Option<String>,
    /// The most events to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
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
/// holds the answer until there is an event. `after=latest` begins with what is to come. A cursor that this feed has
/// not given out, as one from before a backup was put back, is answered with 409 `cursor-unknown` and `newest_cursor`; so is
/// one that events were pruned after, with `oldest_cursor` besides.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "listEvents", params(Feed), responses((status = 200, body = Events), Problems))]
pub(super) async fn events(
    State(state): State<ApiState>,
    Params(query): Params<Feed>,
) -> Result<Json<Events>, Problem> {
    let page = read_page("events", query.limit.as_deref(), None)?;
    let after = match query.after.as_deref().filter(|after| !after.is_empty()) {
        None => 0,
        Some("latest") => state.store.newest_event().await?,
        Some(text) => known_cursor(&state, text).await?,
    };
    let wait = wait(query.wait.as_deref())?;
    let mut deadline = tokio::time::Instant::now() + wait;
    // Subscribed before the query, so that an event between the two is not missed.
    let mut news = state.store.wakeups().of(Waiter::Events);
    loop {
        news.arm();
        let mut events = state.store.events_after(after, page.limit).await?;
        events.truncate(fitting(&events));
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if !events.is_empty() || left == Duration::ZERO {
            let cursor = events.last().map_or(after, |event| event.seq);
            return Ok(Json(Events { items: events, next_cursor: cursor.to_string() }));
        }
        // The end of the wait, an event and a stop all lead to one more look.
        tokio::select! {
            () = state.stopping.cancelled() => deadline = tokio::time::Instant::now(),
            _ = tokio::time::timeout(left.min(LONGEST_SLEEP), news.woken()) => {}
        }
    }
}

/// Parses a cursor, and checks that the feed has given it out and still has all that follows it.
async fn known_cursor(state: &ApiState, text: &str) -> Result<i64, Problem> {
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// The cursor after which events are posted again; `0` for all of them.
    from: String,
}

/// Events that are posted again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    /// The number of events.
    events: usize,
}

/// Posts events to the webhook again.
///
/// The events after the cursor are posted under the ids that they have.
#[utoipa::path(post, path = "/v1/webhook/replay", tag = "events", operation_id = "replayWebhook", request_body = Replay, responses((status = 200, body = Replayed), Problems))]
pub(super) async fn replay_webhook(
    State(state): State<ApiState>,
    Body(body): Body<Replay>,
) -> Result<Json<Replayed>, Problem> {
    let from = known_cursor(&state, &body.from).await?;
    Ok(Json(Replayed { events: state.store.replay_webhook(from).await? }))
}
