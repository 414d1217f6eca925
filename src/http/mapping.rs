//! AWS's mapping of legacy buyers to accounts.

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{BODY_LIMIT, Params, read_body};
use super::{ApiState, Problem, Problems};
use crate::csv::read_mapping;
use crate::store::Mapped;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Shows what would change, and changes nothing.
    dry_run: Option<bool>,
}

/// Takes over AWS's file of which legacy buyer is which account.
#[utoipa::path(post, path = "/v1/customer-mapping", tag = "customers",
    operation_id = "importCustomerMapping", params(How),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = Mapped), Problems))]
pub(super) async fn import(
    State(state): State<ApiState>,
    Params(how): Params<How>,
    request: Request,
) -> Result<Json<Mapped>, Problem> {
    let body = read_body(request, &state, BODY_LIMIT).await?;
    let lines = read_mapping(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let dry_run = how.dry_run == Some(true);
    Ok(Json(state.store.import_mapping(lines, dry_run, state.clock.now()).await?))
}
