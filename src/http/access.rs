//! What a customer may use. The answer is always 200, so that the application can act on it.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::extract::{Params, Path, items, one_more, page};
use super::{ApiState, Problem};
use crate::access::Check;
use crate::domain::access::Access;
use crate::domain::{CustomerId, FeatureId, LicenseArn, Quantity};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Json<Value>, Problem> {
    let page = page(paging.limit.as_deref(), paging.cursor.as_deref())?;
    let more = one_more(&page);
    let limit = usize::try_from(more.limit).unwrap_or(usize::MAX);
    let rows = state.access.list(&CustomerId::new(id), more.after.as_deref(), limit).await?;
    Ok(Json(items(rows, page.limit, |access| access.feature_id.to_string())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    requested: Option<String>,
    license_arn: Option<String>,
}

pub(super) async fn check(
    State(state): State<ApiState>,
    Path((customer, feature)): Path<(String, String)>,
    Params(asked): Params<Asked>,
) -> Result<Json<Access>, Problem> {
    let requested = asked.requested.as_deref().map(str::parse::<Quantity>).transpose();
    let requested =
        requested.map_err(|error| Problem::bad_request(format!("requested: {error}")))?;
    let check = Check { requested, license_arn: asked.license_arn.map(LicenseArn::new) };
    let (customer, feature) = (CustomerId::new(customer), FeatureId::new(feature));
    Ok(Json(state.access.check(&customer, &feature, &check).await?))
}
