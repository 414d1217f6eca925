//! The ledger: records, the balance, and what a person decides.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::customers::canonical;
use super::extract::{Body, Params, Path, items, one_more, page};
use super::{ApiState, Problem};
use crate::domain::ProductId;
use crate::store::{Balance, RecordFilter, RecordRow, Resolution};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    limit: Option<String>,
    cursor: Option<String>,
    state: Option<String>,
    product_id: Option<String>,
    customer_id: Option<String>,
}

const STATES: [&str; 6] = ["open", "ready", "sending", "accepted", "parked", "written_off"];

/// The state that a query asks for.
pub(super) fn state_word(word: String) -> Result<String, Problem> {
    if STATES.contains(&word.as_str()) {
        return Ok(word);
    }
    Err(Problem::bad_request(format!("state is one of {}", STATES.join(", "))))
}

pub(super) async fn records(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Value>, Problem> {
    let customer_id = canonical(&state, query.customer_id).await?;
    let filter = RecordFilter {
        state: query.state.map(state_word).transpose()?,
        product_id: query.product_id.map(ProductId::new),
        customer_id,
        ..RecordFilter::default()
    };
    let page = page(query.limit.as_deref(), query.cursor.as_deref())?;
    let rows = state.store.metering_records(filter, one_more(&page)).await?;
    Ok(Json(items(rows, page.limit, |record| record.id.clone())))
}

pub(super) async fn record(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let found = state.store.metering_record(id.clone()).await?;
    let (record, attempts) = found.ok_or_else(|| Problem::not_found("metering record", &id))?;
    let mut answer = json!(record);
    // How often it was sent stays a number; each attempt has a place of its own.
    answer["history"] = json!(attempts);
    Ok(Json(answer))
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Retry,
    CarryForward,
    WriteOff,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    action: Action,
    note: String,
}

pub(super) async fn resolve(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<Resolve>,
) -> Result<Json<RecordRow>, Problem> {
    if body.note.trim().is_empty() {
        return Err(Problem::bad_request("note says why, for whoever reads the books later"));
    }
    let resolution = match body.action {
        Action::Retry => Resolution::Retry,
        Action::CarryForward => Resolution::CarryForward,
        Action::WriteOff => Resolution::WriteOff,
    };
    Ok(Json(state.store.resolve_record(id, resolution, body.note, state.clock.now()).await?))
}

pub(super) async fn balance(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    let products: BTreeMap<ProductId, Balance> = state.store.metering_balance().await?;
    let mut answer = json!(Balance::total(products.values()));
    answer["adds_up"] = json!(products.values().all(Balance::adds_up));
    answer["products"] = json!(products);
    Ok(Json(answer))
}

/// What is not billed yet, and how long AWS still takes it.
pub(super) async fn due(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    let now = state.clock.now();
    let due = state.store.due_hours(state.metering_window, now).await?;
    let items: Vec<Value> = due
        .iter()
        .map(|hour| {
            let mut item = json!(hour);
            item["seconds_left"] = json!(hour.deadline.duration_since(now).as_secs());
            item
        })
        .collect();
    Ok(Json(json!({"items": items})))
}
