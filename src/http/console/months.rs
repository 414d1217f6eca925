//! `/metering/months/{month}`: the month as finance closes it.

use askama::Template;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse as _;
use serde::Deserialize;

use super::names::Names;
use super::parts::{Answer, Frame, When, go, grouped, hour, month_of, next_page, render};
use super::session::Visitor;
use crate::csv::write_report;
use crate::domain::ledger::deadline;
use crate::domain::{ClockHour, NetQuantity, Quantity};
use crate::http::{ApiState, Problem, read_month};
use crate::store::{
    DueHour, Order, Page, RecordFilter, ReportFilter, ReportPlace, ReportRow, ReportTotal,
};

/// The customers' rows of a page; the file has all.
const ROWS: usize = 50;
/// The most parked records that are counted.
const PARKED: u32 = 500;

/// What is asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// The place of the row that the page goes on after, as JSON.
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "month.html")]
struct MonthPage {
    frame: Frame,
    month: String,
    before: String,
    after: Option<String>,
    totals: Vec<ReportTotal>,
    names: Names,
    rows: Vec<ReportRow>,
    /// The query of the next page.
    next: Option<String>,
    /// What keeps the month from being closed.
    due: Vec<DueHour>,
    parked: Quantity,
    /// The parked records, of no units too.
    parked_records: usize,
    uncertain: Quantity,
    stretches: Vec<String>,
    /// Set once the month is over.
    over: bool,
    /// Until when usage that is reported late still counts in the month.
    last_report: When,
}

impl MonthPage {
    /// Returns the sums of a dimension, in the order of the columns.
    fn of_total(&self, total: &ReportTotal) -> Vec<String> {
        self.columns(total.usage, total.carried, &total.units, total.uncertain)
    }

    /// Returns the sums of a customer, in the order of the columns.
    fn of_row(&self, row: &ReportRow) -> Vec<String> {
        let units = [row.reported, row.accepted, row.pending, row.parked, row.written_off];
        self.columns(row.usage, row.carried, &units, row.uncertain)
    }

    /// Returns the columns of sums as they are shown.
    fn columns(
        &self,
        usage: Quantity,
        carried: NetQuantity,
        units: &[Quantity; 5],
        uncertain: Quantity,
    ) -> Vec<String> {
        let carried = if carried.is_zero() { String::new() } else { grouped(carried) };
        let mut columns = vec![grouped(usage), carried];
        columns.extend(units.iter().map(grouped));
        if self.is_uncertain() {
            columns.push(grouped(uncertain));
        }
        columns
    }

    /// Reports whether AWS may have billed some of what is parked or written off.
    fn is_uncertain(&self) -> bool {
        self.uncertain != Quantity::ZERO
    }

    /// Reports whether nothing keeps the month from being closed.
    fn is_ready(&self) -> bool {
        let open = self.parked != Quantity::ZERO || self.uncertain != Quantity::ZERO;
        self.last_report.is_over && !open && self.due.is_empty() && self.stretches.is_empty()
    }
}

/// Leads to the month that runs.
pub(super) async fn current(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    Ok(go(&visitor, format_args!("/metering/months/{}", month_of(state.clock.now()))))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
    Path(month): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(render(&close(&state, &visitor, month, asked).await?))
}

fn span(month: &str) -> Result<(ClockHour, ClockHour), Problem> {
    read_month(month).ok_or_else(|| Problem::not_found("month", month))
}

fn report_of((from, before): (ClockHour, ClockHour)) -> ReportFilter {
    ReportFilter { from, before, product_id: None, customer_id: None }
}

fn parked_of((from, before): (ClockHour, ClockHour)) -> RecordFilter {
    RecordFilter {
        state: Some("parked".into()),
        from: Some(from),
        before: Some(before),
        ..RecordFilter::default()
    }
}

async fn close(
    state: &ApiState,
    visitor: &Visitor,
    month: String,
    asked: Asked,
) -> Result<MonthPage, Problem> {
    let now = state.clock.now();
    let (from, before) = span(&month)?;
    let after = asked.after.as_deref().map(place).transpose()?;
    let report = state.store.metering_report_part(report_of((from, before)), after, ROWS).await?;
    let due = state.store.due_hours(state.metering_timing, now).await?;
    let parked = parked_of((from, before));
    let first = Page { after: None, limit: PARKED };
    let parked = state.store.metering_records(parked, Order::Newest, first).await?;
    let stretches = state.store.unknown_stretches().await?;
    let stretches = stretches.iter().filter(|it| it.from < before && it.until > from);
    let name = |hour: ClockHour| month_of(hour.start());
    let next = name(before);
    let text = |it: ReportPlace| serde_json::to_string(&it).unwrap_or_default();
    Ok(MonthPage {
        frame: Frame::of(visitor, "metering"),
        before: name(ClockHour::from_number(from.number() - 1)),
        after: Some(next).filter(|_| before.start() <= now),
        parked: report.totals.iter().map(|it| it.units[3]).sum(),
        parked_records: parked.rows.len(),
        uncertain: report.totals.iter().map(|it| it.uncertain).sum(),
        totals: report.totals,
        names: Names::of(state).await?,
        rows: report.rows,
        next: report.next.map(|it| next_page(visitor, "after", &text(it))),
        due: due.into_iter().filter(|it| from <= it.hour && it.hour < before).collect(),
        stretches: stretches.map(|it| format!("{} to {}", hour(it.from), hour(it.until))).collect(),
        over: before.start() <= now,
        last_report: When::of(deadline(before.previous(), state.metering_timing.window), now),
        month,
    })
}

fn place(text: &str) -> Result<ReportPlace, Problem> {
    let fault = "after is not what a page before has led to: begin with the month's first page";
    serde_json::from_str(text).map_err(|_| Problem::bad_request(fault))
}

/// Returns the month's sums as a file.
pub(super) async fn file(State(state): State<ApiState>, Path(month): Path<String>) -> Answer {
    let rows = state.store.metering_report(report_of(span(&month)?)).await?;
    let file = write_report(&rows, &month).map_err(|error| Problem::internal(&error))?;
    let name = format!("attachment; filename=\"metering-{month}.csv\"");
    let kind = "text/csv; charset=utf-8".to_owned();
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file).into_response())
}
