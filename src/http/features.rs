//! Features.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::extract::{Body, Params, Path};
use super::paging::{Items, Paging};
use super::{ApiState, Problem, Problems};
use crate::domain::feature::{Feature, FeatureKind, WhenStale};
use crate::domain::{DimensionKey, FeatureId, Line, ProductId};
use crate::store::FeatureChange;

/// Lists features.
///
/// Ordered by id.
#[utoipa::path(get, path = "/v1/features", tag = "features", operation_id = "listFeatures", params(Paging), responses((status = 200, body = Items<Feature>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Feature>>, Problem> {
    let page = paging.page("features")?;
    let rows = state.store.features(page.one_more()).await?;
    Ok(page.items(rows, |feature| feature.id.to_string()))
}

/// Returns a feature.
///
/// Includes the dimensions that its usage is billed to, product by product.
#[utoipa::path(get, path = "/v1/features/{id}", tag = "features", operation_id = "showFeature", params(("id" = String, Path)), responses((status = 200, body = Feature), Problems))]
pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<FeatureId>,
) -> Result<Json<Feature>, Problem> {
    let found = state.store.feature(id.clone()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("feature", id.as_str()))
}

/// A feature to create or change. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutFeature {
    pub(super) name: Line,
    /// The kind of the feature; it cannot be changed once the feature exists.
    #[serde(rename = "type")]
    pub(super) kind: FeatureKind,
    /// The name of one unit. Unchanged if left out; none if empty.
    pub(super) unit: Option<Line>,
    /// The metered dimensions that a metered feature's usage is billed to, product by product. Unchanged if left
    /// out; if given, they replace all that it has, and `{}` bills it nowhere.
    pub(super) dimensions: Option<BTreeMap<ProductId, DimensionKey>>,
    /// The answer to checks when AWS has not been reached for long. Unchanged if left out; `allow` for a new feature.
    pub(super) when_stale: Option<WhenStale>,
}

/// Creates or changes a feature.
///
/// What is left out stays as it is. The event `feature.updated` tells of a change; its `unlinked` names the
/// dimensions that the feature's usage is billed to no more.
#[utoipa::path(put, path = "/v1/features/{id}", tag = "features", operation_id = "putFeature", params(("id" = String, Path)), request_body = PutFeature, responses((status = 200, body = Feature), Problems))]
pub(super) async fn put(
    State(state): State<ApiState>,
    Path(id): Path<FeatureId>,
    Body(body): Body<PutFeature>,
) -> Result<Json<Feature>, Problem> {
    let PutFeature { name, kind, unit, dimensions, when_stale } = body;
    let (name, unit) = (name.into_string(), unit.map(Line::into_string));
    let change = FeatureChange { id, name, kind, unit, dimensions, when_stale };
    Ok(Json(state.store.put_feature(change, state.clock.now()).await?))
}
