//! `/v1/webhook`: how the webhook stands, what became of each event, and what a person does about it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::events::known_cursor;
use super::extract::{Body, Params, span};
use super::paging::{Items, ListPage};
use super::{ApiState, Problem, Problems};
use crate::domain::Moment;
use crate::domain::event::Lane;
use crate::store::{DeliveryFilter, DeliveryState, Order, WebhookDelivery, WebhookState};
use crate::webhook::{Receiver, WebhookTest};

/// How the webhook stands.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookView {
    /// The address that events are posted to; left out if `webhook.url` is not set. What may be a password in it is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// Set while a person has it post nothing.
    pub(super) paused: bool,
    /// The time since when that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paused_at: Option<Timestamp>,
    /// The name of the token by which it was paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paused_by: Option<String>,
    /// The two lanes: one does not wait for the other.
    pub(super) lanes: Vec<LaneView>,
    /// The time at which the application last took an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_delivered_at: Option<Timestamp>,
    /// The time at which it last refused one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_refused_at: Option<Timestamp>,
    /// The reason that it gave then, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    /// The time at which somebody last tried it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_tested_at: Option<Timestamp>,
}

/// How far a lane of the webhook is.
#[derive(Serialize, ToSchema)]
pub(super) struct LaneView {
    /// `prompt` for what somebody waits for; `bulk` for `metering.accepted` and `metering.resolved`.
    pub(super) lane: &'static str,
    /// The cursor up to which every event of the lane was posted.
    pub(super) cursor: String,
    /// The number of events that wait, or a few more; it is not counted beyond 100,000.
    pub(super) waiting: u64,
    /// The time of the first that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest_waiting_at: Option<Timestamp>,
}

fn view(state: &ApiState, held: WebhookState) -> WebhookView {
    let lanes = Lane::ALL.map(|lane| {
        let it = held.lanes.of(lane);
        let (lane, cursor) = (lane.as_str(), it.cursor.to_string());
        LaneView { lane, cursor, waiting: it.waiting, oldest_waiting_at: it.oldest_at }
    });
    WebhookView {
        url: state.webhook.as_ref().map(|webhook| webhook.shown_url()),
        paused: held.paused_at.is_some(),
        paused_at: held.paused_at,
        paused_by: held.paused_by,
        lanes: lanes.into(),
        last_delivered_at: held.taken_at,
        last_refused_at: held.refused_at,
        last_error: held.refusal,
        last_tested_at: held.tested_at,
    }
}

/// Returns the webhook, or the problem that none is set.
fn set(state: &ApiState) -> Result<&Receiver, Problem> {
    state.webhook.as_deref().ok_or_else(|| {
        let detail = "no webhook is set: name the address in webhook.url and the file of its secret in webhook.secret_file, and start the daemon anew";
        Problem::new(StatusCode::CONFLICT, "webhook-not-set", detail)
    })
}

/// Returns how the webhook stands.
///
/// How far each lane is, what waits the longest, when the application last took an event, and why it last refused one.
#[utoipa::path(get, path = "/v1/webhook", tag = "events", operation_id = "showWebhook", responses((status = 200, body = WebhookView), Problems))]
pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<WebhookView>, Problem> {
    let held = state.store.webhook_state().await?;
    Ok(Json(view(&state, held)))
}

/// The deliveries that are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Deliveries {
    /// Only those in this state: `delivered`, `failing` or `given_up`.
    state: Option<String>,
    /// The order of the events: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only of events from this time on.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Only of events from before this time.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
    /// The most deliveries to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
}

/// Lists what became of posting each event.
///
/// The newest event first, unless `order` says otherwise. An event that was not posted yet is not among them; `GET /v1/webhook`
/// counts those. A delivery is kept as long as its event.
#[utoipa::path(get, path = "/v1/webhook/deliveries", tag = "events", operation_id = "listWebhookDeliveries", params(Deliveries), responses((status = 200, body = Items<WebhookDelivery>), Problems))]
pub(super) async fn deliveries(
    State(state): State<ApiState>,
    Params(query): Params<Deliveries>,
) -> Result<Json<Items<WebhookDelivery>>, Problem> {
    let known = |word: &str| {
        DeliveryState::parse(word).ok_or_else(|| {
            let words = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
            Problem::bad_request(format!("state is one of {words}"))
        })
    };
    let of_state = query.state.as_deref().map(known).transpose()?;
    let order = query.order.unwrap_or_default();
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    let page = ListPage::in_order("deliveries", order, limit, cursor)?;
    let span = span(query.since, query.until, state.clock.now());
    let filter = DeliveryFilter { state: of_state, span };
    let listed = state.store.webhook_deliveries(filter, order, page.one_more()).await?;
    Ok(page.listed(listed, |row| row.cursor.to_string()))
}

/// Tries the webhook.
///
/// Posts a signed event of type `webhook.test` at once, also while the webhook is paused, and answers with what the
/// application said. The event is not part of the feed.
#[utoipa::path(post, path = "/v1/webhook/test", tag = "events", operation_id = "testWebhook", responses((status = 200, body = WebhookTest), Problems))]
pub(super) async fn test(State(state): State<ApiState>) -> Result<Json<WebhookTest>, Problem> {
    let webhook = set(&state)?;
    let now = state.clock.now();
    state.store.note_webhook_test(now).await?;
    Ok(Json(webhook.test(now).await))
}

/// Pauses the webhook.
///
/// Nothing is posted until it is resumed, over restarts too. Events wait, and none is lost.
#[utoipa::path(post, path = "/v1/webhook/pause", tag = "events", operation_id = "pauseWebhook", responses((status = 200, body = WebhookView), Problems))]
pub(super) async fn pause(State(state): State<ApiState>) -> Result<Json<WebhookView>, Problem> {
    set(&state)?;
    state.store.pause_webhook(state.clock.now()).await?;
    show(State(state)).await
}

/// Resumes the webhook.
///
/// What waited is posted, each lane from where it was.
#[utoipa::path(post, path = "/v1/webhook/resume", tag = "events", operation_id = "resumeWebhook", responses((status = 200, body = WebhookView), Problems))]
pub(super) async fn resume(State(state): State<ApiState>) -> Result<Json<WebhookView>, Problem> {
    set(&state)?;
    state.store.resume_webhook().await?;
    show(State(state)).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// The cursor after which events are posted again; `0` for all of them.
    pub(super) after: Option<String>,
    /// The same under its older name.
    #[schema(deprecated)]
    pub(super) from: Option<String>,
    /// The time from which on events are posted again, in place of a cursor.
    #[schema(value_type = Option<String>)]
    pub(super) since: Option<Moment>,
}

/// Events that are posted again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    /// The number of events.
    events: usize,
    /// The cursor after which they are.
    after: String,
}

/// Posts events to the webhook again.
///
/// The events after the cursor, or since the time, are posted under the ids that they have. With the newest cursor,
/// what waits is passed over.
#[utoipa::path(post, path = "/v1/webhook/replay", tag = "events", operation_id = "replayWebhook", request_body = Replay, responses((status = 200, body = Replayed), Problems))]
pub(super) async fn replay(
    State(state): State<ApiState>,
    Body(body): Body<Replay>,
) -> Result<Json<Replayed>, Problem> {
    let after = match (body.after.or(body.from), body.since) {
        (Some(cursor), None) => known_cursor(&state, &cursor).await?,
        (None, Some(since)) => state.store.cursor_before(since.at(state.clock.now())).await?,
        _ => {
            return Err(Problem::bad_request(
                "name the cursor in after, or the time in since: one of the two",
            ));
        }
    };
    let events = state.store.replay_webhook(after).await?;
    Ok(Json(Replayed { events, after: after.to_string() }))
}
