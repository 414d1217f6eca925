//! `/metering/months/{month}`: the month as finance closes it.

use askama::Template;
use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::IntoResponse as _;

use super::parts::{Answer, Frame, go, month_of, render};
use super::session::Visitor;
use crate::csv::write_report;
use crate::domain::{ClockHour, Quantity};
use crate::http::{ApiState, Problem, read_month};
use crate::store::{DueHour, ReportFilter, ReportRow};

/// The most rows that the page shows; the file has all.
const SHOWN: usize = 500;

#[derive(Template)]
#[template(path = "month.html")]
struct MonthPage {
    frame: Frame,
    month: String,
    before: String,
    after: Option<String>,
    totals: Vec<Total>,
    rows: Vec<ReportRow>,
    all: usize,
    /// What keeps the month from being closed.
    due: Vec<DueHour>,
    parked: Quantity,
    uncertain: Quantity,
    stretches: Vec<String>,
    /// Set once the month is over.
    over: bool,
}

impl MonthPage {
    /// Returns the sums of a row, in the order of the columns.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    const fn sums(&self, row: &ReportRow) -> [Quantity; 5] {
        parts_of(row)
    }
}

const fn parts_of(row: &ReportRow) -> [Quantity; 5] {
    [row.reported, row.accepted, row.pending, row.parked, row.written_off]
}

/// The sums of a product's dimension.
struct Total {
    product: String,
    dimension: String,
    customers: usize,
    sums: [Quantity; 5],
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
) -> Answer {
    Ok(render(&close(&state, &visitor, month).await?))
}

fn span(month: &str) -> Result<(ClockHour, ClockHour), Problem> {
    read_month(month).ok_or_else(|| Problem::not_found("month", month))
}

fn report_of((from, before): (ClockHour, ClockHour)) -> ReportFilter {
    ReportFilter { from, before, product_id: None, customer_id: None }
}

async fn close(state: &ApiState, visitor: &Visitor, month: String) -> Result<MonthPage, Problem> {
    let now = state.clock.now();
    let (from, before) = span(&month)?;
    let rows = state.store.metering_report(report_of((from, before))).await?;
    let due = state.store.due_hours(state.metering_timing, now).await?;
    let stretches = state.store.unknown_stretches().await?;
    let stretches = stretches.iter().filter(|it| it.from < before && it.until > from);
    let name = |hour: ClockHour| month_of(hour.start());
    let next = name(before);
    Ok(MonthPage {
        frame: Frame::of(visitor, "metering"),
        before: name(ClockHour::from_number(from.number() - 1)),
        after: Some(next).filter(|_| before.start() <= now),
        totals: totals(&rows),
        all: rows.len(),
        due: due.into_iter().filter(|it| from <= it.hour && it.hour < before).collect(),
        parked: rows.iter().map(|it| it.parked).sum(),
        uncertain: rows.iter().map(|it| it.uncertain).sum(),
        stretches: stretches.map(|it| format!("{} to {}", it.from, it.until)).collect(),
        over: before.start() <= now,
        rows: rows.into_iter().take(SHOWN).collect(),
        month,
    })
}

fn totals(rows: &[ReportRow]) -> Vec<Total> {
    let mut totals: Vec<Total> = Vec::new();
    for row in rows {
        let (product, dimension) = (row.product_id.to_string(), row.dimension.to_string());
        let is_same = |it: &Total| it.product == product && it.dimension == dimension;
        let place = totals.iter().position(is_same).unwrap_or_else(|| {
            totals.push(Total { product, dimension, customers: 0, sums: [Quantity::ZERO; 5] });
            totals.len() - 1
        });
        let total = &mut totals[place];
        total.customers += 1;
        for (sum, part) in total.sums.iter_mut().zip(parts_of(row)) {
            *sum = sum.saturating_add(part);
        }
    }
    totals
}

/// Returns the month's sums as a file.
pub(super) async fn file(State(state): State<ApiState>, Path(month): Path<String>) -> Answer {
    let rows = state.store.metering_report(report_of(span(&month)?)).await?;
    let file = write_report(&rows).map_err(|error| Problem::internal(&error))?;
    let name = format!("attachment; filename=\"metering-{month}.csv\"");
    let kind = "text/csv; charset=utf-8".to_owned();
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file).into_response())
}
