//! Usage reports: every event is validated alone, and a bad one does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use jiff::Timestamp;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::{NUL, holds_nul, must_be_object, read_body};
use super::openapi::GivenQuantity;
use super::{ApiState, Problem, Problems};
use crate::csv::{BadLine, UsageLine, read_usage};
use crate::domain::allocation::TAGS_MOST;
use crate::domain::usage::{Rejection, UsageEvent, UsageSubject};
use crate::domain::{CustomerId, DimensionKey, FeatureId, LicenseArn, ProductId, Quantity};

/// The most bytes of a report.
pub(super) const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The most events in a report: one transaction holds them.
const EVENTS_MOST: usize = 10_000;
const ID_LONGEST: usize = 255;

/// Reports usage.
///
/// Each event is taken once, whole or not at all; its id is its idempotency key. The answer comes after the commit.
/// What is wrong with an event is in `rejected`, and the others are taken. The same events are taken as NDJSON
/// (`application/x-ndjson`, an event a line) and as CSV (`text/csv`, whose first line names the fields; tags are columns
/// `tag:KEY`).
#[utoipa::path(post, path = "/v1/usage", tag = "usage", operation_id = "reportUsage", request_body = UsageReport, responses((status = 200, body = Receipt), Problems))]
pub(super) async fn report(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<Receipt>, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = read_body(request, &state, BODY_LIMIT).await?;
    let UsageRead { events, mut rejected } = read(&kind, &body)?;
    let receipt = state.store.append_usage(events, state.usage_ages, state.clock.now()).await?;
    count(receipt.accepted, "accepted");
    count(receipt.duplicates, "duplicate");
    rejected.extend(receipt.rejected);
    count(rejected.len(), "rejected");
    let (accepted, duplicates) = (receipt.accepted, receipt.duplicates);
    Ok(Json(Receipt { accepted, duplicates, rejected }))
}

/// A report as it is read: well-formed events, and rejections of the others.
#[derive(Debug)]
pub struct UsageRead {
    /// The well-formed events.
    pub events: Vec<UsageEvent>,
    /// The rejections of the others.
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
    for (place, text) in raw {
        match text.and_then(|text| read_event(&text, place)) {
            Ok(event) => events.push(event),
            Err(rejection) => rejected.push(rejection),
        }
    }
    Ok(UsageRead { events, rejected })
}

/// The place of an event in a report: its name in the answer if its id cannot be read.
#[derive(Clone, Copy)]
enum Place {
    /// An index in a list, counted from 0.
    Item(usize),
    /// A line of a file, counted from 1.
    Line(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(item) => write!(f, "#{item}"),
            Self::Line(line) => write!(f, "line {line}"),
        }
    }
}

/// The events of a report one by one, or why one cannot even be separated from the others.
type Raw = Vec<(Place, Result<Box<RawValue>, Rejection>)>;

/// The result of a report.
#[derive(Serialize, ToSchema)]
pub(super) struct Receipt {
    /// The number of events that are newly on disk.
    accepted: usize,
    /// The number of events that were on disk before.
    duplicates: usize,
    /// The events that were not taken, each with the reason.
    rejected: Vec<Rejection>,
}

/// Usage events, at most 10,000.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read event by event, so that a bad one does not hold up the others")]
pub(super) struct UsageReport {
    events: Vec<WireEvent>,
}

pub(super) fn count(events: usize, outcome: &'static str) {
    metrics::counter!("marketd_usage_events_total", "outcome" => outcome)
        .increment(u64::try_from(events).unwrap_or(u64::MAX));
}

fn split_array(body: &[u8]) -> Result<Raw, Problem> {
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
    let items = report.events.into_iter().enumerate();
    Ok(items.map(|(item, text)| (Place::Item(item), Ok(text))).collect())
}

#[expect(clippy::unnecessary_wraps, reason = "one of three ways to read a body")]
fn split_lines(body: &[u8]) -> Result<Raw, Problem> {
    // Files from some systems begin with a mark of their encoding.
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
    let full = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let read = |(number, line): (u64, &[u8])| {
        let place = Place::Line(number);
        let event = serde_json::from_slice(line).map_err(|error| {
            // The parser counts the lines of what it is given, which is one.
            let error = error.to_string();
            let what = error.rsplit_once(" at line ").map_or(error.as_str(), |(what, _)| what);
            unreadable(line, place, format!("the line is not a JSON object: {what}"))
        });
        (place, event)
    };
    Ok(full.map(read).collect())
}

fn split_csv(body: &[u8]) -> Result<Raw, Problem> {
    let lines = read_usage(body).map_err(|error| Problem::bad_request(error.to_string()))?;
    lines
        .into_iter()
        .map(|UsageLine { line, event }| {
            let place = Place::Line(line);
            let event = match event {
                Ok(event) => Ok(serde_json::value::to_raw_value(&event)?),
                Err(BadLine { id, detail }) => {
                    let id = id.unwrap_or_else(|| place.to_string());
                    Err(Rejection { id, code: "invalid_event", detail })
                }
            };
            Ok((place, event))
        })
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| Problem::bad_request(error.to_string()))
}

/// A usage event: of a feature, or of a dimension of a product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WireEvent {
    pub(super) id: String,
    pub(super) customer_id: CustomerId,
    pub(super) feature_id: Option<FeatureId>,
    pub(super) dimension: Option<DimensionKey>,
    pub(super) product_id: Option<ProductId>,
    #[schema(value_type = GivenQuantity)]
    pub(super) quantity: Box<RawValue>,
    pub(super) timestamp: Option<String>,
    pub(super) license_arn: Option<LicenseArn>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

fn unreadable(text: &[u8], place: Place, detail: String) -> Rejection {
    let id = id_of(text).unwrap_or_else(|| place.to_string());
    Rejection { id, code: "invalid_event", detail }
}

fn read_event(text: &RawValue, place: Place) -> Result<UsageEvent, Rejection> {
    let unreadable = |detail: String| unreadable(text.get().as_bytes(), place, detail);
    // By itself serde takes a list for an object, its values in the order of our own fields.
    if text.get().starts_with('[') {
        return Err(unreadable("an event is a JSON object, not a list".to_owned()));
    }
    if holds_nul(text.get().as_bytes()) {
        return Err(unreadable(format!("the event {NUL}")));
    }
    let event: WireEvent =
        serde_json::from_str(text.get()).map_err(|error| unreadable(error.to_string()))?;
    let name = if event.id.is_empty() { place.to_string() } else { event.id.clone() };
    well_formed(event, &name)
}

/// Reads the fields of an event; its name stands in what is said of it.
pub(super) fn well_formed(event: WireEvent, name: &str) -> Result<UsageEvent, Rejection> {
    let reject = |code, detail: String| Rejection { id: name.to_owned(), code, detail };
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
            return Err(reject("invalid_event", detail));
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

/// Returns the id of an event that cannot be read otherwise, so that the answer can name it: as far as the text is
/// JSON.
fn id_of(text: &[u8]) -> Option<String> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(text);
    // What comes after it may be anything.
    reader.deserialize_map(IdSeeker(&mut found)).ok();
    found.filter(|id| (1..=ID_LONGEST).contains(&id.len()))
}

/// A deserializer that keeps an object's `id`, even if the object is not read to its end.
struct IdSeeker<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for IdSeeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            if key == "id" {
                *self.0 = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
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
