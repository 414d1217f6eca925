//! Consumption: whether a customer may use so much of a feature, and its usage, in one call.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::{Body, Path};
use super::openapi::GivenQuantity;
use super::usage::{WireEvent, count, well_formed};
use super::{ApiState, Problem, Problems};
use crate::domain::consumption::Consumption;
use crate::domain::{CustomerId, FeatureId, LicenseArn};

/// Usage of a feature that is counted only if the customer may use so much.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "req-1", "quantity": 1}))]
pub(super) struct Consume {
    /// The id of the event: its idempotency key, one for all customers and for `/v1/usage` too.
    id: String,
    /// The quantity that is about to be used.
    #[schema(value_type = GivenQuantity)]
    quantity: Box<RawValue>,
    /// The time of use, whose window counts; now if left out.
    timestamp: Option<String>,
    /// The licence that it is used under, where there are several.
    license_arn: Option<LicenseArn>,
    /// The tags by which it splits on the buyer's bill.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// Checks whether a customer may use so much of a metered feature, and counts it if so, in one commit.
///
/// A hard limit holds however many ask at once; what is denied (`"accepted": false`) is not counted. The same id with
/// the same content again answers `"accepted": true, "duplicate": true`, also when the limit is reached by now. What a
/// usage report would reject is a problem here, whose `code` is that of the report: `unknown_customer` and
/// `unknown_feature` (404), `conflicting_duplicate` (409), `license_required`, `feature_not_metered`,
/// `timestamp_in_future` and `too_old` (422), `invalid_quantity` and its like (400).
#[utoipa::path(
    post,
    path = "/v1/customers/{id}/entitlements/{feature_id}/consume",
    tag = "entitlements",
    operation_id = "consumeEntitlement",
    params(("id" = String, Path), ("feature_id" = String, Path)),
    request_body = Consume,
    responses(
        (
            status = 200,
            body = Consumption,
            example = json!({
                "feature_id": "calls", "type": "metered", "has_access": true, "reason": "granted", "limit": 100,
                "unlimited": false, "usage": 1, "remaining": 99, "resets_at": "2026-12-01T00:00:00Z",
                "plan_id": "starter", "subscription_id": "sub_1", "subscription_status": "active",
                "accepted": true, "duplicate": false,
            }),
        ),
        Problems,
    ),
)]
pub(super) async fn consume(
    State(state): State<ApiState>,
    Path((customer, feature)): Path<(String, String)>,
    Body(asked): Body<Consume>,
) -> Result<Json<Consumption>, Problem> {
    let Consume { id, quantity, timestamp, license_arn, tags } = asked;
    let name = id.clone();
    let event = WireEvent {
        id,
        customer_id: CustomerId::new(customer),
        feature_id: Some(FeatureId::new(feature)),
        dimension: None,
        product_id: None,
        quantity,
        timestamp,
        license_arn,
        tags,
    };
    let consumed = match well_formed(event, &name) {
        Ok(event) => state.access.consume(event, state.usage_ages).await?,
        Err(rejection) => Err(rejection),
    };
    count(1, outcome(consumed.as_ref().ok()));
    Ok(Json(consumed?))
}

/// Names what became of an event, as the metric does.
const fn outcome(consumed: Option<&Consumption>) -> &'static str {
    match consumed {
        Some(Consumption { duplicate: true, .. }) => "duplicate",
        Some(Consumption { accepted: true, .. }) => "accepted",
        Some(_) => "denied",
        None => "rejected",
    }
}
