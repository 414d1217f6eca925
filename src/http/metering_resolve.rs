//! Decisions over parked records: about one, or about all that match.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::customers::canonical;
use super::extract::{Body, Path};
use super::note::checked_note;
use super::{ApiState, Problem, Problems};
use crate::domain::counted::{agreeing, counted};
use crate::domain::{ClockHour, DimensionKey, Moment, ProductId, Quantity};
use crate::store::{RecordFilter, RecordRow, Resolution, ResolvedAll};

/// An action on a parked record.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// Send the record again as it is.
    Retry,
    /// Bill the record's units with the open hour.
    CarryForward,
    /// Give the record up.
    WriteOff,
}

impl From<Action> for Resolution {
    fn from(action: Action) -> Self {
        match action {
            Action::Retry => Self::Retry,
            Action::CarryForward => Self::CarryForward,
            Action::WriteOff => Self::WriteOff,
        }
    }
}

/// A decision over a parked record, and its reason.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    pub(super) action: Action,
    pub(super) note: String,
}

/// Resolves a parked record.
///
/// `retry` sends it again as it is, `carry_forward` bills its units with the open hour, `write_off` gives them up. Nothing is
/// carried forward to a subscription that has ended and did not go on as another: `subscription-ended` names what would
/// take it. Every decision is kept with its note, and told as `metering.resolved`.
#[utoipa::path(post, path = "/v1/metering/records/{id}/resolve", tag = "metering", operation_id = "resolveMeteringRecord", params(("id" = String, Path)), request_body = Resolve, responses((status = 200, body = RecordRow), Problems))]
pub(super) async fn one(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Body(body): Body<Resolve>,
) -> Result<Json<RecordRow>, Problem> {
    let note = checked_note(&body.note)?;
    let now = state.clock.now();
    Ok(Json(state.store.resolve_record(id, body.action.into(), note, now).await?))
}

/// The parked records that a decision is about: those to which all of this applies; `{}` are all of them.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only `parked`, which is meant if it is left out: others are not for a person to decide.
    pub(super) state: Option<String>,
    /// The reason why they are parked.
    pub(super) reason: Option<String>,
    pub(super) product_id: Option<String>,
    pub(super) customer_id: Option<String>,
    pub(super) dimension: Option<String>,
    /// Only records of this time's hour and later ones.
    #[schema(value_type = Option<String>)]
    pub(super) since: Option<Moment>,
    /// Only records of hours that begin before this time.
    #[schema(value_type = Option<String>)]
    pub(super) until: Option<Moment>,
}

/// A decision over all parked records that match, and its reason.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveAll {
    pub(super) filter: Filter,
    pub(super) action: Action,
    /// The reason; only a dry run may leave it out.
    pub(super) note: Option<String>,
    /// Returns what the decision would come to, and changes nothing.
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// The outcome of a decision over all that match.
#[derive(Serialize, ToSchema)]
pub(super) struct ResolveOutcome {
    /// The number of parked records that match.
    pub(super) matched: u64,
    /// The number of them that were resolved; of a dry run, that would be.
    pub(super) resolved: u64,
    /// The units of those.
    pub(super) units: Quantity,
    /// The records that stay parked since they cannot bear the decision: the first 100 of them.
    pub(super) refused: Vec<RefusedRecord>,
}

/// A record that stays parked.
#[derive(Serialize, ToSchema)]
pub(super) struct RefusedRecord {
    pub(super) id: String,
    /// The reason: `outcome_unknown`, `never_frozen`, `subscription_ended` or `metered_in_other_form`.
    pub(super) code: String,
    /// What to do with it.
    pub(super) detail: String,
}

/// Resolves all parked records that match.
///
/// What one record cannot bear does not stop the others: it stays parked and is named in `refused`. The records are
/// resolved piece by piece. If the answer does not come, send the same again: what is resolved is parked no more.
#[utoipa::path(post, path = "/v1/metering/resolve", tag = "metering", operation_id = "resolveMeteringRecords", request_body = ResolveAll, responses((status = 200, body = ResolveOutcome), Problems))]
pub(super) async fn all(
    State(state): State<ApiState>,
    Body(body): Body<ResolveAll>,
) -> Result<Json<ResolveOutcome>, Problem> {
    let filter = filter(&state, body.filter).await?;
    let (action, now) = (body.action.into(), state.clock.now());
    let done = if body.dry_run {
        state.store.try_resolving(filter, action, now).await
    } else {
        let note = checked_note(&body.note.unwrap_or_default())?;
        state.store.resolve_records(filter, action, note, now).await
    };
    answer(done).map(Json)
}

pub(super) async fn filter(state: &ApiState, filter: Filter) -> Result<RecordFilter, Problem> {
    if let Some(other) = filter.state.filter(|word| word != "parked") {
        return Err(Problem::bad_request(format!(
            "filter.state is parked, not {other:?}: only parked records are for a person to decide"
        )));
    }
    let now = state.clock.now();
    Ok(RecordFilter {
        reason: filter.reason,
        dimension: filter.dimension.map(DimensionKey::new),
        product_id: filter.product_id.map(ProductId::new),
        customer_id: canonical(state, filter.customer_id).await?,
        from: filter.since.map(|it| ClockHour::of(it.at(now))),
        before: filter.until.map(|it| ClockHour::not_before(it.at(now))),
        ..RecordFilter::default()
    })
}

fn answer(done: ResolvedAll) -> Result<ResolveOutcome, Problem> {
    if let Some(error) = done.cut_short {
        let problem = Problem::from(error);
        if done.resolved == 0 {
            return Err(problem);
        }
        let detail = format!(
            "the database could not go on: {} {} resolved; send the same again for the rest",
            counted(done.resolved, "record"),
            agreeing(done.resolved, "is", "are")
        );
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail));
    }
    let refused = |(id, error)| {
        let (code, detail) = Problem::from(error).into_code();
        RefusedRecord { id, code, detail }
    };
    Ok(ResolveOutcome {
        matched: done.matched,
        resolved: done.resolved,
        units: done.units,
        refused: done.refused.into_iter().map(refused).collect(),
    })
}
