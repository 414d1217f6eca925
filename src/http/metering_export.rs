//! Exports of the ledger for finance: the month's report, and every record as a file.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::customers::canonical;
use super::extract::Params;
use super::{ApiState, Problem, Problems};
use crate::csv::{write_records, write_report};
use crate::domain::{ClockHour, NetQuantity, PointInTime, ProductId, Quantity};
use crate::store::{Listed, Order, Page, RecordFilter, RecordRow, ReportFilter, ReportRow, Store};

/// The number of records read at once while a file is written.
const ROWS: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Json,
    Ndjson,
    Csv,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    /// The month in UTC, as 2026-11.
    month: String,
    product_id: Option<String>,
    customer_id: Option<String>,
    #[param(inline)]
    format: Option<Format>,
}

/// Returns a month's totals.
///
/// Totals are by product, customer and dimension, as JSON, or as CSV with `Accept: text/csv`.
#[utoipa::path(get, path = "/v1/metering/report", tag = "metering", operation_id = "meteringReport", params(Report), responses((status = 200, content((MonthReport = "application/json"), (String = "text/csv"))), Problems))]
pub(super) async fn report(
    State(state): State<ApiState>,
    Params(query): Params<Report>,
) -> Result<Response, Problem> {
    let (from, before) = month(&query.month)
        .ok_or_else(|| Problem::bad_request("month is a month in UTC such as 2026-11"))?;
    let filter = ReportFilter {
        from,
        before,
        product_id: query.product_id.map(ProductId::new),
        customer_id: canonical(&state, query.customer_id).await?,
    };
    let rows = state.store.metering_report(filter).await?;
    match query.format.unwrap_or(Format::Json) {
        Format::Csv => {
            let file =
                write_report(&rows, &query.month).map_err(|error| Problem::internal(&error))?;
            Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], file).into_response())
        }
        Format::Json => {
            let totals = totals(&rows);
            Ok(Json(MonthReport { month: query.month, items: rows, totals }).into_response())
        }
        Format::Ndjson => Err(Problem::bad_request("format is json or csv")),
    }
}

/// A month's totals.
#[derive(Serialize, ToSchema)]
pub(super) struct MonthReport {
    month: String,
    items: Vec<ReportRow>,
    totals: MonthTotals,
}

/// The sums of a month.
#[derive(Serialize, ToSchema)]
struct MonthTotals {
    usage: Quantity,
    carried: NetQuantity,
    reported: Quantity,
    accepted: Quantity,
    pending: Quantity,
    parked: Quantity,
    written_off: Quantity,
    carried_in: Quantity,
    carried_out: Quantity,
    remainder: Quantity,
    uncertain: Quantity,
}

fn totals(rows: &[ReportRow]) -> MonthTotals {
    let sum = |part: fn(&ReportRow) -> Quantity| rows.iter().map(part).sum::<Quantity>();
    MonthTotals {
        usage: sum(|it| it.usage),
        carried: rows.iter().map(|it| it.carried).sum(),
        reported: sum(|it| it.reported),
        accepted: sum(|it| it.accepted),
        pending: sum(|it| it.pending),
        parked: sum(|it| it.parked),
        written_off: sum(|it| it.written_off),
        carried_in: sum(|it| it.carried_in),
        carried_out: sum(|it| it.carried_out),
        remainder: sum(|it| it.remainder),
        uncertain: sum(|it| it.uncertain),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    state: Option<String>,
    product_id: Option<String>,
    customer_id: Option<String>,
    /// Only hours from this time on, as 2026-11-01 or 2026-11-01T06:00:00Z.
    from: Option<String>,
    /// Only hours before this time.
    before: Option<String>,
    #[param(inline)]
    format: Option<Format>,
}

/// Returns the ledger as a file.
///
/// Writes one row for each metering record, the oldest hour first, as CSV, or as NDJSON with `Accept: application/x-ndjson`.
#[utoipa::path(get, path = "/v1/metering/export", tag = "metering", operation_id = "exportMetering", params(Export), responses((status = 200, description = "The ledger", content((String = "text/csv"), (String = "application/x-ndjson"))), Problems))]
pub(super) async fn export(
    State(state): State<ApiState>,
    Params(query): Params<Export>,
) -> Result<Response, Problem> {
    let format = query.format.unwrap_or(Format::Csv);
    let filter = RecordFilter {
        state: query.state.map(super::metering::state_word).transpose()?,
        product_id: query.product_id.map(ProductId::new),
        customer_id: canonical(&state, query.customer_id).await?,
        from: query.from.as_deref().map(hour).transpose()?,
        before: query.before.as_deref().map(hour).transpose()?,
        ..RecordFilter::default()
    };
    let kind = match format {
        Format::Csv => "text/csv; charset=utf-8",
        Format::Ndjson => "application/x-ndjson",
        Format::Json => return Err(Problem::bad_request("format is csv or ndjson")),
    };
    let first = Page { after: None, limit: ROWS };
    let parts = stream::try_unfold(Some(first), move |page| {
        let (store, filter) = (state.store.clone(), filter.clone());
        async move {
            let Some(page) = page else { return Ok(None) };
            next_part(&store, filter, page, format).await.map(Some)
        }
    });
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(parts)).into_response())
}

/// Reads a page of records as text, and returns it with the next page.
async fn next_part(
    store: &Store,
    filter: RecordFilter,
    page: Page,
    format: Format,
) -> Result<(Bytes, Option<Page>), anyhow::Error> {
    let first = page.after.is_none();
    let Listed { rows, looked_until } = store.metering_records(filter, Order::Oldest, page).await?;
    let last = rows.last().filter(|_| rows.len() == ROWS as usize);
    let next = last.map(RecordRow::key).or(looked_until);
    let next = next.map(|after| Page { after: Some(after), limit: ROWS });
    let text = match format {
        Format::Csv => write_records(&rows, first)?,
        Format::Json | Format::Ndjson => lines(&rows)?,
    };
    Ok((text.into(), next))
}

fn lines(rows: &[RecordRow]) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Parses an hour from a time, or from a day in UTC.
pub fn hour(text: &str) -> Result<ClockHour, Problem> {
    PointInTime::parse(text)
        .map(|at| ClockHour::of(at.into()))
        .map_err(|fault| Problem::bad_request(format!("from and before are times: {fault}")))
}

/// Parses a month as people write it, `2026-11`: its first hour, and the first hour after it.
pub fn month(text: &str) -> Option<(ClockHour, ClockHour)> {
    let (year, month) = text.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
        return None;
    }
    let first = jiff::civil::Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?;
    let next = first.last_of_month().tomorrow().ok()?;
    let hour = |day: jiff::civil::Date| {
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(ClockHour::of(start.timestamp()))
    };
    Some((hour(first)?, hour(next)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_next_begins() {
        let shown = |text| month(text).map(|(from, before)| format!("{from} {before}"));
        assert_eq!(shown("2026-12").unwrap(), "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z");
        assert_eq!(shown("2028-02").unwrap(), "2028-02-01T00:00:00Z 2028-03-01T00:00:00Z");
        for wrong in ["2026", "2026-13", "26-01", "2026-1", "2026-01-01", "2026-+1", "+026-01"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }
}
