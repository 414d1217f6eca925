//! Entitlement checks. The answer is always 200, so that the application can act on it.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Items, Paging, Params, Path, items, one_more};
use super::{ApiState, Problem, Problems};
use crate::access::Check;
use crate::domain::access::Access;
use crate::domain::{CustomerId, FeatureId, LicenseArn, Quantity};

/// Lists the features that a customer may use.
///
/// Features that no plan of the customer's grants are listed too, with the reason.
#[utoipa::path(get, path = "/v1/customers/{id}/entitlements", tag = "entitlements", operation_id = "listEntitlements", params(("id" = String, Path), Paging), responses((status = 200, body = Items<Access>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Access>>, Problem> {
    let page = paging.page()?;
    let more = one_more(&page);
    let limit = usize::try_from(more.limit).unwrap_or(usize::MAX);
    let rows = state.access.list(&CustomerId::new(id), more.after.as_deref(), limit).await?;
    Ok(items(rows, page.limit, |access| access.feature_id.to_string()))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    requested: Option<String>,
    license_arn: Option<String>,
}

/// Checks one feature of a customer, and how much of it is left.
///
/// Always 200, so that a caller can act on the answer: an unknown customer or feature is a `reason`, not an error.
/// The answer comes from memory and counts every report that was answered before.
#[utoipa::path(get, path = "/v1/customers/{id}/entitlements/{feature_id}", tag = "entitlements", operation_id = "checkEntitlement", params(("id" = String, Path), ("feature_id" = String, Path), Asked), responses((status = 200, body = Access), Problems))]
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
