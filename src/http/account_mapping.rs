//! AWS's mapping of legacy buyers to accounts.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{BODY_LIMIT, Params, read_body};
use super::{ApiState, Problem, Problems};
use crate::csv::{mapping_line, read_mapping};
use crate::store::{MappingLine, MappingOutcome};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Shows what would change, and changes nothing.
    dry_run: Option<bool>,
}

/// The mapping of legacy buyers to accounts.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    /// The pairs, one for each legacy buyer.
    lines: Vec<Pair>,
}

/// A legacy buyer and its account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Pair {
    customer_identifier: String,
    /// The AWS account's id, 12 digits.
    account_id: String,
}

/// Imports AWS's mapping of legacy buyers to accounts.
///
/// Takes AWS's file as CSV (`text/csv`), whose first line names the columns `CustomerIdentifier` and
/// `CustomerAWSAccountId`, or as JSON. Customers that the file shows to be the same buyer become one. A line that
/// contradicts what is known is refused and returned; the others count.
#[utoipa::path(post, path = "/v1/customer-mapping", tag = "customers",
    operation_id = "importCustomerMapping", params(How),
    request_body = Mapping,
    responses((status = 200, body = MappingOutcome), Problems))]
pub(super) async fn import(
    State(state): State<ApiState>,
    Params(how): Params<How>,
    request: Request,
) -> Result<Json<MappingOutcome>, Problem> {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/json"));
    let body = read_body(request, &state, BODY_LIMIT).await?;
    let lines = if is_json { read_json(&body)? } else { read_csv(&body)? };
    let dry_run = how.dry_run == Some(true);
    Ok(Json(state.store.import_mapping(lines, dry_run, state.clock.now()).await?))
}

fn read_csv(body: &[u8]) -> Result<Vec<MappingLine>, Problem> {
    read_mapping(body).map_err(|error| Problem::bad_request(error.to_string()))
}

fn read_json(body: &[u8]) -> Result<Vec<MappingLine>, Problem> {
    let mapping: Mapping = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("in the body: {error}")))?;
    let lines = mapping.lines.iter().zip(1..).map(|(pair, line)| {
        mapping_line(line, &pair.customer_identifier, &pair.account_id).ok_or_else(|| {
            Problem::bad_request(format!(
                "line {line}: customer_identifier is AWS's name of a buyer, account_id 12 digits"
            ))
        })
    });
    lines.collect()
}
