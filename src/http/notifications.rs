//! Notifications as they came from AWS.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params, Path, span};
use super::note::checked_note;
use super::paging::{Items, ListPage, read_large};
use super::{ApiState, Problem, Problems};
use crate::diagnosis::Diagnosis;
use crate::domain::Moment;
use crate::intake::sns::{Refusal, SnsError};
use crate::store::{Listed, NotificationFilter, NotificationRow, Order};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most notifications to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    /// `applied`, `pending`, `quarantined` or `discarded`.
    state: Option<String>,
    /// The action or detail-type, as `subscribe-success`.
    kind: Option<String>,
    product_code: Option<String>,
    /// The order of receipt: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only what was received from this time on.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Only what was received before this time.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
}

pub(super) const STATES: [&str; 4] = ["applied", "pending", "quarantined", "discarded"];

/// A notification, with what to do about it while it is in quarantine or waits for an import.
#[derive(Serialize, ToSchema)]
pub(super) struct NotificationView {
    #[serde(flatten)]
    notification: NotificationRow,
    /// What its state means, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<Diagnosis>,
}

impl NotificationView {
    fn of(notification: NotificationRow) -> Self {
        Self { diagnosis: Diagnosis::of_notification(&notification), notification }
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
        span: span(query.since, query.until, state.clock.now()),
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
/// One that still cannot be read is answered as it is: `quarantined` or `discarded`, with the reason. A notification that was quarantined because it is not known to be AWS's is checked anew, and stays in quarantine
/// (409) unless the check passes now. One whose body was erased with a customer cannot be processed again (409).
#[utoipa::path(post, path = "/v1/notifications/{id}/replay", tag = "notifications", operation_id = "replayNotification", params(("id" = String, Path)), responses((status = 200, body = NotificationView), Problems))]
pub(super) async fn replay(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<NotificationView>, Problem> {
    if let Some(row) = state.store.notification(id.clone()).await?
        && let Some(at) = row.erased_at
    {
        let detail = format!(
            "the body of notification {id} was erased at {at} with the customer that it named; what it told stays applied"
        );
        return Err(Problem::new(StatusCode::CONFLICT, "notification-erased", detail));
    }
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

/// The reason for which a notification is discarded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DiscardNotification)]
pub(super) struct DiscardNote {
    /// Says why, for whoever reads it later; at most 4096 bytes.
    pub(super) note: String,
}

/// Takes a notification out of quarantine without applying it.
///
/// It is `discarded`: it is no problem any more, stays readable with the note and who wrote it, and can still be replayed.
/// Only a quarantined one can be discarded, and its note is never overwritten. Told as `notification.discarded`.
#[utoipa::path(post, path = "/v1/notifications/{id}/discard", tag = "notifications", operation_id = "discardNotification", params(("id" = String, Path)), request_body = DiscardNote, responses((status = 200, body = NotificationView), Problems))]
pub(super) async fn discard(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<DiscardNote>,
) -> Result<Json<NotificationView>, Problem> {
    let note = checked_note(&body.note)?;
    let discarded = state.store.discard_notification(id, note, state.clock.now()).await?;
    Ok(Json(NotificationView::of(discarded)))
}
