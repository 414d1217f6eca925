//! `/metering`: the records, and one of them with what to do about it.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use jiff::Timestamp;
use serde::Deserialize;

use super::charts::HourMap;
use super::choices::Choices;
use super::names::Names;
use super::parts::{
    self, Answer, Form, Frame, When, go_after, month_of, next_page, render, segment, some,
};
use super::resolve::Decided;
use super::session::Visitor;
use crate::diagnosis::{Action, Diagnosis};
use crate::domain::ledger::CARRIED_FORWARD;
use crate::domain::{ClockHour, CustomerId, Moment, ProductId};
use crate::http::extract::Body;
use crate::http::metering_resolve::{self, Resolve};
use crate::http::paging::ListPage;
use crate::http::{ApiState, Problem};
use crate::store::{
    AttemptRow, DecisionRow, DueHour, Order, RecordFilter, RecordRow, RecordUsage, Resolution,
};

/// The records of a page.
const ROWS: &str = "50";
/// The days of the map of hours.
const DAYS: i64 = 31;
/// The most months before this one that are linked.
const MONTHS: usize = 12;
/// The most hours that are shown as waiting to be billed.
const DUE: usize = 24;
/// The states to filter by, and what each means: first the steps of what is pending, then the others.
const PENDING: [(&str, &str); 3] = [
    ("open", "open: its hour is not closed"),
    ("ready", "ready: it waits to be sent"),
    ("sending", "sending: AWS was called"),
];
const SETTLED: [&str; 4] = ["accepted", "parked", "written_off", CARRIED_FORWARD];

/// What is asked for.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    product_id: String,
    #[serde(default)]
    customer_id: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    cursor: Option<String>,
    done: Option<String>,
}

/// Returns the filter of a state as people are shown it.
fn in_state(text: &str) -> Result<RecordFilter, Problem> {
    let known = PENDING.iter().map(|(word, _)| *word).chain(SETTLED);
    let word = parts::choice("state", text, known.map(|word| (word, word)))?;
    let (state, carried_forward) = match word {
        Some(CARRIED_FORWARD) => (Some("written_off"), Some(true)),
        Some("written_off") => (word, Some(false)),
        _ => (word, None),
    };
    let state = state.map(str::to_owned);
    Ok(RecordFilter { state, carried_forward, ..RecordFilter::default() })
}

impl Asked {
    /// Reports whether all records are asked for, as by whoever comes for an overview.
    fn is_all(&self) -> bool {
        [&self.state, &self.product_id, &self.customer_id, &self.since, &self.until]
            .iter()
            .all(|text| text.trim().is_empty())
            && self.cursor.is_none()
    }
}

/// How the hours stand, for whoever asks for all.
struct Hours {
    map: HourMap,
    due: Vec<(DueHour, When)>,
    months: Vec<String>,
}

#[derive(Template)]
#[template(path = "metering.html")]
struct RecordsPage {
    frame: Frame,
    asked: Asked,
    pending: [(&'static str, &'static str); 3],
    settled: [&'static str; 4],
    records: Vec<RecordRow>,
    /// What was decided by the form that led here.
    decided: Option<Decided>,
    hours: Option<Hours>,
    products: Choices,
    names: Names,
    /// The query of the next page.
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Answer {
    let hours = if asked.is_all() { Some(hours(&state).await?) } else { None };
    let now = state.clock.now();
    let filter = RecordFilter {
        product_id: some(&asked.product_id).map(ProductId::new),
        customer_id: some(&asked.customer_id).map(CustomerId::new),
        from: time(&asked.since, "since", now)?.map(ClockHour::of),
        before: time(&asked.until, "until", now)?.map(ClockHour::not_before),
        ..in_state(&asked.state)?
    };
    let page = ListPage::in_order("records", Order::Newest, Some(ROWS), asked.cursor.as_deref())?;
    let listed = state.store.metering_records(filter, Order::Newest, page.one_more()).await?;
    let Json(found) = page.listed(listed, RecordRow::key);
    let next = found.next_cursor.map(|it| next_page(&visitor, "cursor", &it));
    let records = found.items;
    let products = Choices::products(&state, &asked.product_id).await?;
    let customers = records.iter().map(|it| &it.customer_id);
    let names = Names::of(&state).await?.and_customers(&state, customers).await?;
    let decided = asked.done.as_deref().and_then(Decided::parse);
    Ok(render(&RecordsPage {
        frame: Frame::of(&visitor, "metering"),
        asked,
        pending: PENDING,
        settled: SETTLED,
        records,
        decided,
        hours,
        products,
        names,
        next,
    }))
}

fn time(text: &str, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let fault = |error| Problem::bad_request(format!("{name}: {error}"));
    let parse = |text: String| Moment::parse(&text).map(|it| it.at(now)).map_err(fault);
    some(text).map(parse).transpose()
}

/// Returns how the hours of the last 31 days stand, and those that wait to be billed.
async fn hours(state: &ApiState) -> Result<Hours, Problem> {
    let now = state.clock.now();
    let today = ClockHour::of(now).number().div_euclid(24) * 24;
    let first = ClockHour::from_number(today - (DAYS - 1) * 24);
    let length = ClockHour::of(now).number() - first.number() + 1;
    let states = state.store.hour_states(first, u32::try_from(length).unwrap_or(0)).await?;
    let due = state.store.due_hours(state.metering_timing, now).await?;
    let dated = |it: DueHour| {
        let deadline = When::of(it.deadline, now);
        (it, deadline)
    };
    let this = ClockHour::of(now).month_begin();
    let before = state.store.metered_months(this, MONTHS).await?;
    let months = std::iter::once(this).chain(before).map(|it| month_of(it.start())).collect();
    Ok(Hours {
        map: HourMap::of(first, &states),
        due: due.into_iter().take(DUE).map(dated).collect(),
        months,
    })
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage {
    frame: Frame,
    names: Names,
    record: RecordRow,
    deadline: Option<When>,
    diagnosis: Option<Diagnosis>,
    /// The actions that would help others and that it cannot bear, and why.
    refused: Vec<(Action, String)>,
    attempts: Vec<(AttemptRow, When)>,
    decisions: Vec<(DecisionRow, When)>,
    usage: Vec<RecordUsage>,
}

impl RecordPage {
    /// Returns what went wrong last, while that is what keeps the record.
    fn trouble(&self) -> Option<&str> {
        let waits = ["ready", "sending", "parked"].contains(&self.record.state.as_str());
        self.record.last_error.as_deref().filter(|_| waits)
    }

    /// Returns the usage that was in other hours than the record's.
    fn moved(&self) -> impl Iterator<Item = &RecordUsage> {
        self.usage.iter().filter(|it| it.is_outside(self.record.hour))
    }

    /// Returns when usage was, in UTC.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn span(&self, usage: &RecordUsage) -> String {
        let (first, last) = (parts::minute(usage.first_at), parts::minute(usage.last_at));
        if first == last { first } else { format!("{first} to {last}") }
    }

    /// Returns the actions that are offered, with what each does.
    fn deeds(&self) -> Vec<(&'static str, &'static str)> {
        let actions = self.diagnosis.map_or(&[][..], |diagnosis| diagnosis.actions);
        let can_bear = |action: &&Action| self.refused.iter().all(|(it, _)| it != *action);
        actions.iter().filter(can_bear).map(|action| (action.as_str(), deed(*action))).collect()
    }

    /// Returns the action that is offered first.
    fn first_deed(&self) -> &'static str {
        self.deeds().first().map_or("", |(word, _)| word)
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer {
    Ok(render(&record(&state, &visitor, &id).await?))
}

async fn record(state: &ApiState, visitor: &Visitor, id: &str) -> Result<RecordPage, Problem> {
    let now = state.clock.now();
    let found = state.store.metering_record(id.to_owned()).await?;
    let (record, history) = found.ok_or_else(|| Problem::not_found("metering record", id))?;
    let diagnosis = Diagnosis::of_record(&record);
    let refused = refused(state, &record, diagnosis.as_ref()).await?;
    let can_be_sent = refused.iter().all(|(action, _)| *action != Action::Retry);
    Ok(RecordPage {
        frame: Frame::of(visitor, "metering"),
        names: Names::of(state).await?.and_customers(state, [&record.customer_id]).await?,
        usage: history.usage,
        deadline: deadline(&record, diagnosis.as_ref())
            .filter(|_| can_be_sent)
            .map(|at| When::of(at, now)),
        diagnosis,
        refused,
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
    })
}

/// Tries what is advised, and returns what the record cannot bear.
async fn refused(
    state: &ApiState,
    record: &RecordRow,
    diagnosis: Option<&Diagnosis>,
) -> Result<Vec<(Action, String)>, Problem> {
    let mut refused = Vec::new();
    for action in diagnosis.map_or(&[][..], |it| it.actions) {
        let resolution = match action {
            Action::Retry => Resolution::Retry,
            Action::CarryForward => Resolution::CarryForward,
            _ => continue,
        };
        let now = state.clock.now();
        let why = state.store.refusal_of(record.id.clone(), resolution, now).await?;
        refused.extend(why.map(|it| (*action, it.to_string())));
    }
    Ok(refused)
}

/// Returns until when AWS takes a record, while it can be sent.
fn deadline(record: &RecordRow, diagnosis: Option<&Diagnosis>) -> Option<Timestamp> {
    let can_be_sent = match record.state.as_str() {
        "parked" => diagnosis.is_none_or(|it| it.actions.contains(&Action::Retry)),
        "accepted" | "written_off" => false,
        _ => true,
    };
    record.deadline.filter(|_| can_be_sent)
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
) -> Answer {
    let path = crate::http::extract::Path(id.clone());
    let resolved = metering_resolve::one(State(state), path, Body(Resolve { action, note })).await;
    go_after(resolved, &visitor, format_args!("/metering/records/{}", segment(&id)))
}

/// Says why usage is billed to another hour than its own.
pub(super) fn why_moved(reason: &str) -> String {
    match reason {
        "late" => "it was reported when AWS took its own hour no more".into(),
        "hour_frozen" => "its own hour had been billed already".into(),
        "fraction" => "it was less than AWS takes for an hour".into(),
        "renewed" => "its subscription went on as another".into(),
        "carried_forward" => "a person carried it forward".into(),
        "rated_anew" => "what plans include was counted anew".into(),
        other => parts::words(other),
    }
}

/// Says what an action does.
fn deed(action: Action) -> &'static str {
    match action {
        Action::Retry => "Send it again as it is",
        Action::CarryForward => "Carry it forward: its units are billed with the open hour",
        Action::WriteOff => "Write it off: its units are never billed",
        other => other.as_str(),
    }
}
