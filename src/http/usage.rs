//! Usage reports: every event is judged alone, and a bad one does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::{must_be_object, read_body};
use super::{ApiState, Problem, Problems};
use crate::csv::read_usage;
use crate::domain::allocation::TAGS_MOST;
use crate::domain::usage::{Rejection, UsageEvent, UsageSubject};
use crate::domain::{CustomerId, DimensionKey, FeatureId, LicenseArn, ProductId, Quantity};

/// The most that a report may hold.
pub(super) const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The most events in a report: one transaction holds them.
const EVENTS_MOST: usize = 10_000;
const ID_LONGEST: usize = 255;

/// Reports usage. Each event is taken once, whole or not at all.
#[utoipa::path(post, path = "/v1/usage", tag = "usage", operation_id = "reportUsage", request_body(content((UsageReport = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"))), responses((status = 200, body = Receipt), Problems))]
pub(super) async fn report(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<Receipt>, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = read_body(request, &state, BODY_LIMIT).await?;
    let UsageRead { events, mut rejected } = read(&kind, &body)?;
    let receipt =
        state.store.append_usage(events, state.metering_window, state.clock.now()).await?;
    count(receipt.accepted, "accepted");
    count(receipt.duplicates, "duplicate");
    rejected.extend(receipt.rejected);
    count(rejected.len(), "rejected");
    let (accepted, duplicates) = (receipt.accepted, receipt.duplicates);
    Ok(Json(Receipt { accepted, duplicates, rejected }))
}

/// A report as it is read: each event is well-formed, or said not to be.
#[derive(Debug)]
pub struct UsageRead {
    /// Well-formed events.
    pub events: Vec<UsageEvent>,
    /// The others.
    pub rejected: Vec<Rejection>,
}

/// Reads a report in the format that its content type names.
pub fn read(content_type: &str, body: &[u8]) -> Result<UsageRead, Problem> {
    let split = match content_type {
        kind if kind.contains("ndjson") || kind.contains("jsonl") => split_lines,
        kind if kind.contains("csv") => split_csv,
        _ => split_array,
    };
    let raw = split(body)?;
    if raw.len() > EVENTS_MOST {
        let detail = format!("a report holds at most {EVENTS_MOST} events: send it in parts");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", detail));
    }
    let mut events = Vec::with_capacity(raw.len());
    let mut rejected = Vec::new();
    for (place, text) in raw.iter().enumerate() {
        match read_event(text, place) {
            Ok(event) => events.push(event),
            Err(rejection) => rejected.push(rejection),
        }
    }
    Ok(UsageRead { events, rejected })
}

/// What became of a report.
#[derive(Serialize, ToSchema)]
pub(super) struct Receipt {
    /// Events that are on disk now.
    accepted: usize,
    /// Events that were before.
    duplicates: usize,
    /// Events that were not taken.
    rejected: Vec<Rejection>,
}

/// Usage events, at most 10,000.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read event by event, so that a bad one does not hold up the others")]
pub(super) struct UsageReport {
    events: Vec<WireEvent>,
}

fn count(events: usize, outcome: &'static str) {
    metrics::counter!("marketd_usage_events_total", "outcome" => outcome)
        .increment(u64::try_from(events).unwrap_or(u64::MAX));
}

fn split_array(body: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Report {
        events: Vec<Box<RawValue>>,
    }
    if body.trim_ascii().is_empty() {
        return Err(Problem::bad_request(
            "the body is empty: send {\"events\":[…]}, or one event a line as application/x-ndjson",
        ));
    }
    must_be_object(body)?;
    let report: Report = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!(
            "the body is {{\"events\":[…]}}, or one event a line as application/x-ndjson: {error}"
        ))
    })?;
    Ok(report.events)
}

fn split_lines(body: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::bad_request(format!("the body is not UTF-8: {error}")))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| {
                Problem::bad_request(format!("line {} is not JSON: {error}", number + 1))
            })
        })
        .collect()
}

fn split_csv(body: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    let events = read_usage(body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let raw = events.into_iter().map(|event| serde_json::value::to_raw_value(&event));
    raw.collect::<Result<_, _>>().map_err(|error| Problem::bad_request(error.to_string()))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WireEvent {
    id: String,
    customer_id: CustomerId,
    feature_id: Option<FeatureId>,
    dimension: Option<DimensionKey>,
    product_id: Option<ProductId>,
    #[schema(value_type = Quantity)]
    quantity: Box<RawValue>,
    timestamp: Option<String>,
    license_arn: Option<LicenseArn>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

fn read_event(text: &RawValue, place: usize) -> Result<UsageEvent, Rejection> {
    let unreadable = |detail: String| Rejection {
        id: id_of(text).unwrap_or_else(|| format!("#{place}")),
        code: "invalid_event",
        detail,
    };
    // By itself serde takes a list for an object, its values in the order of our own fields.
    if text.get().starts_with('[') {
        return Err(unreadable("an event is a JSON object, not a list".to_owned()));
    }
    let event: WireEvent =
        serde_json::from_str(text.get()).map_err(|error| unreadable(error.to_string()))?;
    let name = if event.id.is_empty() { format!("#{place}") } else { event.id.clone() };
    let reject = |code, detail: String| Rejection { id: name.clone(), code, detail };
    if event.id.is_empty() || event.id.len() > ID_LONGEST {
        let detail = format!("id is 1 to {ID_LONGEST} characters, and the event's alone");
        return Err(reject("invalid_event", detail));
    }
    let quantity: Quantity = serde_json::from_str(event.quantity.get())
        .map_err(|error| reject("invalid_quantity", error.to_string()))?;
    let timestamp = event
        .timestamp
        .as_deref()
        .map(|text| {
            text.parse::<Timestamp>().map_err(|_| {
                reject(
                    "invalid_timestamp",
                    format!("{text:?} is not RFC 3339, as 2026-11-23T12:00:00Z"),
                )
            })
        })
        .transpose()?;
    if let Some(detail) = bad_tags(&event.tags) {
        return Err(reject("invalid_tags", detail));
    }
    let subject = match (event.feature_id, event.dimension, event.product_id) {
        (Some(feature), None, None) => UsageSubject::Feature(feature),
        (None, Some(dimension), Some(product_id)) => {
            UsageSubject::Dimension { product_id, dimension }
        }
        _ => {
            let detail = "name either feature_id, or dimension and product_id".to_owned();
            return Err(Rejection { id: event.id, code: "invalid_event", detail });
        }
    };
    Ok(UsageEvent {
        id: event.id,
        customer_id: event.customer_id,
        subject,
        quantity,
        timestamp,
        license_arn: event.license_arn,
        tags: event.tags,
    })
}

/// The id of an event that cannot be read otherwise, so that the answer can name it.
fn id_of(text: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let named = serde_json::from_str::<Named>(text.get()).ok()?;
    Some(named.id).filter(|id| !id.is_empty())
}

fn bad_tags(tags: &BTreeMap<String, String>) -> Option<String> {
    if tags.len() > TAGS_MOST {
        return Some(format!("AWS takes at most {TAGS_MOST} tags"));
    }
    let allowed = |text: &str| {
        text.chars().all(|it| it.is_ascii_alphanumeric() || "+ -=._:\\/@".contains(it))
    };
    let bad: BTreeSet<&str> = tags
        .iter()
        .filter(|(key, value)| {
            let lengths = (1..=100).contains(&key.len()) && (1..=256).contains(&value.len());
            !lengths || !allowed(key) || !allowed(value)
        })
        .map(|(key, _)| key.as_str())
        .collect();
    (!bad.is_empty()).then(|| {
        let names: Vec<&str> = bad.into_iter().collect();
        format!(
            "{}: AWS takes keys of 1 to 100 and values of 1 to 256 characters of a-z A-Z 0-9 + - = . _ : \\ / @ and blanks",
            names.join(", ")
        )
    })
}
