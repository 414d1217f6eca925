//! The metering ledger: records, the hours that are due, and the balance.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::customers::canonical;
use super::extract::{Params, Path};
use super::paging::{Items, ListPage, whole};
use super::{ApiState, Problem, Problems};
use crate::diagnosis::Diagnosis;
use crate::domain::ledger::UnknownStretch;
use crate::domain::{ClockHour, DimensionKey, Moment, ProductId};
use crate::store::{
    AttemptRow, Balance, DecisionRow, DueHour, Listed, Order, RecordFilter, RecordRow, RecordUsage,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The most records to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
    state: Option<String>,
    /// The reason why they are in it, as `no_subscription`.
    reason: Option<String>,
    product_id: Option<String>,
    customer_id: Option<String>,
    dimension: Option<String>,
    /// The order by hour: the newest first if left out.
    #[param(inline)]
    order: Option<Order>,
    /// Only records of this time's hour and later ones.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Only records of hours that begin before this time.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
}

const STATES: [&str; 6] = ["open", "ready", "sending", "accepted", "parked", "written_off"];

/// Checks the state that a query asks for.
pub(super) fn state_word(word: String) -> Result<String, Problem> {
    if STATES.contains(&word.as_str()) {
        return Ok(word);
    }
    Err(Problem::bad_request(format!("state is one of {}", STATES.join(", "))))
}

/// Lists metering records.
///
/// A record is what was or will be billed to AWS for one licence or legacy buyer, dimension and hour. The newest hour is
/// the first, unless `order` says otherwise.
#[utoipa::path(get, path = "/v1/metering/records", tag = "metering", operation_id = "listMeteringRecords", params(List), responses((status = 200, body = Items<RecordView>), Problems))]
pub(super) async fn records(
    State(state): State<ApiState>,
    Params(query): Params<List>,
) -> Result<Json<Items<RecordView>>, Problem> {
    let customer_id = canonical(&state, query.customer_id).await?;
    let now = state.clock.now();
    let filter = RecordFilter {
        state: query.state.map(state_word).transpose()?,
        reason: query.reason,
        product_id: query.product_id.map(ProductId::new),
        customer_id,
        dimension: query.dimension.map(DimensionKey::new),
        from: query.since.map(|it| ClockHour::of(it.at(now))),
        before: query.until.map(|it| ClockHour::not_before(it.at(now))),
        ..RecordFilter::default()
    };
    let order = query.order.unwrap_or_default();
    let (limit, cursor) = (query.limit.as_deref(), query.cursor.as_deref());
    let page = ListPage::in_order("records", order, limit, cursor)?;
    let found = state.store.metering_records(filter, order, page.one_more()).await?;
    let rows = found.rows.into_iter().map(RecordView::of).collect();
    let views = Listed { rows, looked_until: found.looked_until };
    Ok(page.listed(views, |view: &RecordView| view.record.key()))
}

/// Returns a metering record.
///
/// Includes every attempt at sending it and AWS's answer, and every decision about it while it was parked.
#[utoipa::path(get, path = "/v1/metering/records/{id}", tag = "metering", operation_id = "showMeteringRecord", params(("id" = String, Path)), responses((status = 200, body = RecordWithHistory), Problems))]
pub(super) async fn record(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<RecordWithHistory>, Problem> {
    let found = state.store.metering_record(id.clone()).await?;
    let (record, history) = found.ok_or_else(|| Problem::not_found("metering record", &id))?;
    let record = RecordView::of(record);
    Ok(Json(RecordWithHistory {
        record,
        history: history.attempts,
        decisions: history.decisions,
        usage: history.usage,
    }))
}

/// A metering record, with what to do about it while it is parked.
#[derive(Serialize, ToSchema)]
pub(super) struct RecordView {
    #[serde(flatten)]
    record: RecordRow,
    /// What its reason means, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<Diagnosis>,
}

impl RecordView {
    fn of(record: RecordRow) -> Self {
        Self { diagnosis: Diagnosis::of_record(&record), record }
    }
}

/// A metering record with every attempt at sending it, every decision about it, and when its usage was.
#[derive(Serialize, ToSchema)]
pub(super) struct RecordWithHistory {
    #[serde(flatten)]
    record: RecordView,
    history: Vec<AttemptRow>,
    decisions: Vec<DecisionRow>,
    /// The usage that it bears, by the reason why it was moved to this hour; of events that are pruned nothing is told.
    usage: Vec<RecordUsage>,
}

/// Returns the balance of all reported units.
///
/// In units: `reported` is the sum of `accepted`, `pending`, `parked` and `written_off`, in all and for each
/// product. `included` is what plans covered beside it.
#[utoipa::path(get, path = "/v1/metering/balance", tag = "metering", operation_id = "meteringBalance", responses((status = 200, body = Balances), Problems))]
pub(super) async fn balance(State(state): State<ApiState>) -> Result<Json<Balances>, Problem> {
    let products: BTreeMap<ProductId, Balance> = state.store.metering_balance().await?;
    let total = Balance::total(products.values());
    let adds_up = products.values().all(Balance::adds_up);
    let unknown_stretches = state.store.unknown_stretches().await?;
    Ok(Json(Balances { total, adds_up, products, unknown_stretches }))
}

/// The balance of all units, by where they are.
#[derive(Serialize, ToSchema)]
pub(super) struct Balances {
    #[serde(flatten)]
    total: Balance,
    /// True if `reported` is the sum of the others.
    adds_up: bool,
    products: BTreeMap<ProductId, Balance>,
    /// The hours for which AWS may know more than the ledger, as after a backup was restored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_stretches: Vec<UnknownStretch>,
}

/// An hour that is not billed yet.
#[derive(Serialize, ToSchema)]
pub(super) struct DueView {
    #[serde(flatten)]
    hour: DueHour,
    /// The seconds for which AWS still accepts the hour.
    seconds_left: i64,
}

/// Lists the hours that are not billed yet.
///
/// The nearest deadline comes first; after it AWS no longer accepts the hour.
#[utoipa::path(get, path = "/v1/metering/due", tag = "metering", operation_id = "listDueHours", responses((status = 200, body = Items<DueView>), Problems))]
pub(super) async fn due(State(state): State<ApiState>) -> Result<Json<Items<DueView>>, Problem> {
    let now = state.clock.now();
    let due = state.store.due_hours(state.metering_timing, now).await?;
    let view = |hour: DueHour| {
        let seconds_left = hour.deadline.duration_since(now).as_secs();
        DueView { hour, seconds_left }
    };
    Ok(whole(due.into_iter().map(view).collect()))
}
