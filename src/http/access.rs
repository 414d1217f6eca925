//! Entitlement checks. The answer is always 200, so that the application can act on it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Params, Path};
use super::openapi::GivenQuantity;
use super::paging::{Items, Paging, whole};
use super::{ApiState, Problem, Problems};
use crate::access::Check;
use crate::domain::access::Access;
use crate::domain::{CustomerId, FeatureId, LicenseArn, Quantity};

/// The most checks in one call.
const CHECKS_MOST: usize = 1_000;

/// Lists the features that a customer may use.
///
/// Features that no plan of the customer's grants are listed too, with the reason.
#[utoipa::path(get, path = "/v1/customers/{id}/entitlements", tag = "entitlements", operation_id = "listEntitlements", params(("id" = String, Path), Paging), responses((status = 200, body = Items<Access>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Json<Items<Access>>, Problem> {
    let page = paging.page("entitlements")?;
    let more = page.one_more();
    let limit = usize::try_from(more.limit).unwrap_or(usize::MAX);
    let rows = state.access.list(&CustomerId::new(id), more.after.as_deref(), limit).await?;
    Ok(page.items(rows, |access| access.feature_id.to_string()))
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

/// Checks of features, at most 1,000.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"checks": [
    {"customer_id": "acme", "feature_id": "sso"},
    {"customer_id": "acme", "feature_id": "calls", "requested": 5},
]}))]
pub(super) struct ManyChecks {
    checks: Vec<OneCheck>,
}

/// A check of a feature.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneCheck {
    customer_id: CustomerId,
    feature_id: FeatureId,
    /// The quantity that is about to be used; 1 of a metered feature if left out.
    #[schema(value_type = Option<GivenQuantity>)]
    requested: Option<Quantity>,
    /// The licence, if only what is held under it counts.
    license_arn: Option<LicenseArn>,
}

/// The answer to one of many checks.
#[derive(Serialize, ToSchema)]
pub(super) struct CustomerAccess {
    /// The customer, as the check named it.
    customer_id: CustomerId,
    #[serde(flatten)]
    access: Access,
}

/// Checks many features of customers at once.
///
/// The answers come in the order of the checks, each as that of a single check. It takes at most 1,000 checks.
#[utoipa::path(
    post,
    path = "/v1/access",
    tag = "entitlements",
    operation_id = "checkEntitlements",
    request_body = ManyChecks,
    responses((status = 200, body = Items<CustomerAccess>), Problems),
)]
pub(super) async fn check_many(
    State(state): State<ApiState>,
    Body(asked): Body<ManyChecks>,
) -> Result<Json<Items<CustomerAccess>>, Problem> {
    if asked.checks.len() > CHECKS_MOST {
        let detail = format!("a call holds at most {CHECKS_MOST} checks: send them in parts");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-checks", detail));
    }
    let mut answers = Vec::with_capacity(asked.checks.len());
    for OneCheck { customer_id, feature_id, requested, license_arn } in asked.checks {
        let check = Check { requested, license_arn };
        let access = state.access.check(&customer_id, &feature_id, &check).await?;
        answers.push(CustomerAccess { customer_id, access });
    }
    Ok(whole(answers))
}
