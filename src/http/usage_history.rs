//! Usage events as they were taken, and where each is billed.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::customers::canonical;
use super::extract::{Params, Path, items, one_more, page};
use super::{ApiState, Problem};
use crate::domain::FeatureId;
use crate::store::{UsageFilter, UsageRow};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    limit: Option<String>,
    cursor: Option<String>,
    customer_id: Option<String>,
    feature_id: Option<String>,
    record_id: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Value>, Problem> {
    let record = query
        .record_id
        .map(|id| id.parse().map_err(|_| Problem::not_found("metering record", &id)))
        .transpose()?;
    let filter = UsageFilter {
        customer_id: canonical(&state, query.customer_id).await?,
        feature_id: query.feature_id.map(FeatureId::new),
        record,
    };
    let page = page(query.limit.as_deref(), query.cursor.as_deref())?;
    let rows = state.store.usage_events(filter, one_more(&page)).await?;
    Ok(Json(items(rows, page.limit, |event| event.seq.to_string())))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<UsageRow>, Problem> {
    let found = state.store.usage_event(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("usage event", &id))
}
