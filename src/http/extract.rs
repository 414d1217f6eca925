//! Extraction of bodies, paths and queries from requests, with problem details for what cannot be read.

use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tower_http::timeout::TimeoutError;

use super::Problem;
use crate::domain::Moment;
use crate::store::Span;

/// The most bytes of a body, except for usage reports.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read_body(request, state, BODY_LIMIT).await?;
        // No body says as much as an empty object: every field may be left out of some.
        let text = if bytes.trim_ascii().is_empty() { b"{}".as_slice() } else { &bytes };
        must_be_object(text)?;
        if holds_nul(text) {
            return Err(Problem::bad_request(format!("the body {NUL}")));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if inner.is_eof() {
                return Problem::bad_request("the body ends before its JSON does");
            }
            let place = if [".", "?"].contains(&path.as_str()) {
                String::new()
            } else {
                format!("{path}: ")
            };
            Problem::bad_request(format!("the body cannot be read: {place}{inner}"))
        })?;
        json.end().map_err(|error| {
            Problem::bad_request(format!("the body has more after its JSON: {error}"))
        })?;
        Ok(Self(value))
    }
}

/// Checks that a body is an object: by itself serde takes a list for one, its values in the order of our own fields.
pub(super) fn must_be_object(json: &[u8]) -> Result<(), Problem> {
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::bad_request("the body is a JSON object, not a list"));
    }
    Ok(())
}

/// What is wrong with a text that holds it: a database on a server takes it in none.
pub(super) const NUL: &str = "holds the character U+0000, which no text may hold";

/// Reports whether a text of JSON's holds the character U+0000, which JSON can only say as an escape.
pub(super) fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        // What is escaped may be a backslash.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// Refuses an address that holds it.
fn refuse_nul(parts: &Parts) -> Result<(), Problem> {
    if parts.uri.path_and_query().is_some_and(|it| it.as_str().contains("%00")) {
        return Err(Problem::bad_request(format!("the address {NUL}")));
    }
    Ok(())
}

/// Reads the whole body, refused beyond the limit that the route sets, which is this.
pub(super) async fn read_body<S: Send + Sync>(
    request: Request,
    state: &S,
    limit: usize,
) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!(
                "the body is larger than the {} MiB ({limit} bytes) that this call takes: send it in parts",
                limit / (1024 * 1024)
            );
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail);
        }
        if came_too_slowly(&rejection) {
            let detail = "the body did not come in time: send it again";
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail);
        }
        Problem::bad_request(rejection.body_text())
    })
}

fn came_too_slowly(rejection: &BytesRejection) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(rejection);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The ids in the path. Those that the seller chooses are taken by their own types, which check them.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let AxumPath(value) =
            AxumPath::from_request_parts(parts, state).await.map_err(|rejection| {
                Problem::bad_request(format!("the path cannot be read: {}", rejection.body_text()))
            })?;
        // Ids that the seller chooses have said so themselves by now.
        refuse_nul(parts)?;
        Ok(Self(value))
    }
}

/// The query parameters.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        refuse_nul(parts)?;
        let Query(value) = Query::from_request_parts(parts, state).await.map_err(|rejection| {
            Problem::bad_request(format!(
                "a query parameter cannot be read: {}",
                rejection.body_text()
            ))
        })?;
        Ok(Self(value))
    }
}

/// Returns the span that a list is asked for.
pub(super) fn span(since: Option<Moment>, until: Option<Moment>, now: Timestamp) -> Span {
    Span { since: since.map(|it| it.at(now)), until: until.map(|it| it.at(now)) }
}

/// Parses `wait`, a duration of at most a minute.
pub(super) fn wait(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else {
        return Ok(Duration::ZERO);
    };
    crate::settings::duration(text)
        .filter(|wait| *wait <= Duration::from_secs(60))
        .ok_or_else(|| Problem::bad_request("wait is a duration such as 500ms or 5s, at most 1m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_that_no_text_may_hold_is_found_by_its_escape_alone() {
        for (json, holds) in [
            (r#"{"id": "a\u0000b"}"#, true),
            (r#"{"id": "\\\u0000"}"#, true),
            (r#"{"id": "a\\u0000b"}"#, false),
            (r#"{"id": "\u00001"}"#, true),
            (r#"{"id": "\u0001"}"#, false),
            (r#"{"id": "a"}"#, false),
            ("\\", false),
        ] {
            assert_eq!(holds_nul(json.as_bytes()), holds, "{json}");
        }
    }
}
