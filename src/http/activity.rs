//! `GET /v1/activity`: who changed what.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Items, Params, items, one_more, page};
use super::openapi::Problems;
use super::{ApiState, Problem};
use crate::store::ActivityRow;

/// The activities that are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The name of the token by which it was done.
    actor: Option<String>,
    /// The most items to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
}

/// Lists who changed what, by which door.
///
/// The newest first. A row stands for a request that changed something; reported usage, which applications send without
/// end, is not among them.
#[utoipa::path(get, path = "/v1/activity", tag = "operations", operation_id = "listActivity",
    params(Query), responses((status = 200, body = Items<ActivityRow>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<Query>,
) -> Result<Json<Items<ActivityRow>>, Problem> {
    let page = page(query.limit.as_deref(), query.cursor.as_deref())?;
    let rows = state.store.activities(query.actor, one_more(&page)).await?;
    Ok(items(rows, page.limit, |row| row.seq.to_string()))
}
