//! `/metering`: the records, and one of them with what to do about it.

use askama::Template;
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Deserialize;

use super::parts::{Form, Frame, Trouble, When, go, made, page, query};
use super::session::Visitor;
use crate::diagnosis::{Action, Diagnosis};
use crate::domain::{CustomerId, ProductId};
use crate::http::extract::Body;
use crate::http::metering::state_word;
use crate::http::metering_resolve::{self, Resolve};
use crate::http::paging::ListPage;
use crate::http::{ApiState, Problem};
use crate::store::{AttemptRow, DecisionRow, Order, RecordFilter, RecordRow};

/// The records of a page.
const ROWS: &str = "50";
const STATES: [&str; 6] = ["open", "ready", "sending", "accepted", "parked", "written_off"];

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    product_id: String,
    #[serde(default)]
    customer_id: String,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "metering.html")]
struct RecordsPage {
    frame: Frame,
    asked: Asked,
    states: [&'static str; 6],
    records: Vec<RecordRow>,
    /// The query of the next page.
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    made(&visitor, found(&state, &visitor, asked).await)
}

async fn found(state: &ApiState, visitor: &Visitor, asked: Asked) -> Result<RecordsPage, Problem> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = RecordFilter {
        state: some(&asked.state).map(state_word).transpose()?,
        product_id: some(&asked.product_id).map(ProductId::new),
        customer_id: some(&asked.customer_id).map(CustomerId::new),
        ..RecordFilter::default()
    };
    let page = ListPage::in_order("records", Order::Newest, Some(ROWS), asked.cursor.as_deref())?;
    let listed = state.store.metering_records(filter, Order::Newest, page.one_more()).await?;
    let Json(found) = page.listed(listed, RecordRow::key);
    let next = found.next_cursor.map(|cursor| {
        query(&[
            ("state", &asked.state),
            ("product_id", &asked.product_id),
            ("customer_id", &asked.customer_id),
            ("cursor", &cursor),
        ])
    });
    let records = found.items;
    Ok(RecordsPage { frame: Frame::of(visitor, "metering"), asked, states: STATES, records, next })
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage {
    frame: Frame,
    record: RecordRow,
    deadline: Option<When>,
    diagnosis: Option<Diagnosis>,
    attempts: Vec<(AttemptRow, When)>,
    decisions: Vec<(DecisionRow, When)>,
    fault: Option<String>,
    note: String,
}

impl RecordPage {
    /// Returns the actions that are offered, with what each does.
    fn deeds(&self) -> Vec<(&'static str, &'static str)> {
        let actions = self.diagnosis.map_or(&[][..], |diagnosis| diagnosis.actions);
        actions.iter().map(|action| (action.as_str(), deed(*action))).collect()
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Response {
    made(&visitor, record(&state, &visitor, &id).await)
}

async fn record(state: &ApiState, visitor: &Visitor, id: &str) -> Result<RecordPage, Problem> {
    let now = state.clock.now();
    let found = state.store.metering_record(id.to_owned()).await?;
    let (record, history) = found.ok_or_else(|| Problem::not_found("metering record", id))?;
    Ok(RecordPage {
        frame: Frame::of(visitor, "metering"),
        deadline: record.deadline.map(|at| When::of(at, now)),
        diagnosis: Diagnosis::of_record(&record),
        attempts: history
            .attempts
            .into_iter()
            .map(|it| (it.clone(), When::of(it.at, now)))
            .collect(),
        decisions: history
            .decisions
            .into_iter()
            .map(|it| (it.clone(), When::of(it.at, now)))
            .collect(),
        record,
        fault: None,
        note: String::new(),
    })
}

/// A decision over a parked record.
#[derive(Deserialize)]
pub(super) struct Decision {
    action: metering_resolve::Action,
    note: String,
}

pub(super) async fn resolve(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Form(Decision { action, note }): Form<Decision>,
) -> Response {
    let body = Body(Resolve { action, note: note.clone() });
    let resolved =
        metering_resolve::one(State(state.clone()), crate::http::extract::Path(id.clone()), body);
    let Err(problem) = resolved.await else {
        return go(&visitor, format_args!("/metering/records/{id}"));
    };
    let status = problem.status();
    match record(&state, &visitor, &id).await {
        Ok(mut found) => {
            found.fault = Some(problem.detail().to_owned());
            found.note = note;
            (status, page(&found)).into_response()
        }
        Err(_) => Trouble::new(&visitor, problem).into_response(),
    }
}

/// Says what an action does.
fn deed(action: Action) -> &'static str {
    match action {
        Action::Retry => "Send it again as it is",
        Action::CarryForward => "Bill its units with the open hour",
        Action::WriteOff => "Give it up: its units are never billed",
        other => other.as_str(),
    }
}
