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
        Ok(Self(value))
    }
}

/// The query parameters.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
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
