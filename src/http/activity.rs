//! `GET /v1/activity`: who changed what.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Params, span};
use super::openapi::Problems;
use super::paging::{Items, ListPage};
use super::{ApiState, Problem};
use crate::domain::Moment;
use crate::store::{ActivityFilter, ActivityRow, Order};

/// The activities that are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The name of the token by which it was done.
    actor: Option<String>,
    /// The order by time: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only what is from this time on.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Only what is from before this time.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
    /// The most items to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
}

/// Lists who changed what, by which door.
///
/// The newest first, unless `order` says otherwise. A row stands for a request that changed something; reported usage, which applications send without
/// end, is not among them.
#[utoipa::path(get, path = "/v1/activity", tag = "operations", operation_id = "listActivity",
    params(Query), responses((status = 200, body = Items<ActivityRow>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<Query>,
) -> Result<Json<Items<ActivityRow>>, Problem> {
    let order = query.order.unwrap_or_default();
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    let page = ListPage::in_order("activity", order, limit, cursor)?;
    let span = span(query.since, query.until, state.clock.now());
    let filter = ActivityFilter { actor: query.actor, span };
    let listed = state.store.activities(filter, order, page.one_more()).await?;
    Ok(page.listed(listed, |row| row.seq.to_string()))
}
