//! Usage events as they were taken, and the records that bill them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::customers::canonical;
use super::extract::{Params, Path, span};
use super::paging::{Items, ListPage};
use super::{ApiState, Problem, Problems};
use crate::domain::{FeatureId, Moment};
use crate::store::{Order, UsageFilter, UsageRow};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most events to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    customer_id: Option<String>,
    feature_id: Option<String>,
    record_id: Option<String>,
    /// The order of receipt: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only what was reported from this time on.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Only what was reported before this time.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
}

/// Lists usage events.
///
/// They are returned as they were reported, with where each is billed; the last to be reported is the first, unless
/// `order` says otherwise.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", operation_id = "listUsage", params(List), responses((status = 200, body = Items<UsageRow>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Items<UsageRow>>, Problem> {
    let record = query
        .record_id
        .map(|id| id.parse().map_err(|_| Problem::not_found("metering record", &id)))
        .transpose()?;
    let filter = UsageFilter {
        customer_id: canonical(&state, query.customer_id).await?,
        feature_id: query.feature_id.map(FeatureId::new),
        record,
        span: span(query.since, query.until, state.clock.now()),
    };
    let order = query.order.unwrap_or_default();
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    let page = ListPage::in_order("usage", order, limit, cursor)?;
    let listed = state.store.usage_events(filter, order, page.one_more()).await?;
    Ok(page.listed(listed, |event| event.seq.to_string()))
}

/// Returns a usage event.
///
/// Includes the metering record that bears it, and why that is another hour's than its own.
#[utoipa::path(get, path = "/v1/usage/{id}", tag = "usage", operation_id = "showUsage", params(("id" = String, Path)), responses((status = 200, body = UsageRow), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<UsageRow>, Problem> {
    let found = state.store.usage_event(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("usage event", &id))
}
