//! Extraction of bodies, paths and queries from requests, with problem details for what cannot be read.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tower_http::timeout::TimeoutError;
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use crate::store::{Page, StoreError};

/// The most bytes of a body, except for usage reports.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
const PAGE_DEFAULT: u32 = 100;
const PAGE_MOST: u32 = 500;
/// The most bytes of a page's rows: rows beyond them come with the next page.
const PAGE_LARGEST: usize = 4 * 1_024 * 1_024;
/// The number of possibly large rows that are read at once.
const ROWS_AT_ONCE: u32 = 20;

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

/// The page that is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    /// The most items to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
}

impl Paging {
    /// Returns the page that the query asks for.
    pub(super) fn page(&self) -> Result<Page, Problem> {
        page(self.limit.as_deref(), self.cursor.as_deref())
    }
}

/// Parses `limit` and `cursor` as they come.
pub fn page(limit: Option<&str>, cursor: Option<&str>) -> Result<Page, Problem> {
    let limit = match limit {
        None => PAGE_DEFAULT,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=PAGE_MOST).contains(limit)).ok_or_else(|| {
                Problem::bad_request(format!("limit is a whole number from 1 to {PAGE_MOST}"))
            })?
        }
    };
    let after = match cursor {
        None => None,
        Some(cursor) => {
            let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
            let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            Some(key.ok_or_else(foreign_cursor)?)
        }
    };
    Ok(Page { after, limit })
}

/// Returns the problem with a cursor that this list did not make.
pub(super) fn foreign_cursor() -> Problem {
    Problem::bad_request("cursor is not one that this list answered with as next_cursor")
}

/// A page of items.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Items<T> {
    items: Vec<T>,
    /// The cursor of the next page; null if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Answers a list whole, as one page.
pub(super) fn whole<T>(items: Vec<T>) -> Json<Items<T>> {
    Json(Items { items, next_cursor: None })
}

/// Answers a page. One row more than asked for shows that there is another page.
pub(super) fn items<T: Serialize>(
    mut rows: Vec<T>,
    limit: u32,
    key: impl Fn(&T) -> String,
) -> Json<Items<T>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(fitting(&rows));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| URL_SAFE_NO_PAD.encode(key(row)));
    Json(Items { items: rows, next_cursor })
}

/// Returns how many of these rows fit into a page, and at least one.
pub(super) fn fitting<T: Serialize>(rows: &[T]) -> usize {
    let mut bytes = 0;
    let mut fit = |row: &T| {
        bytes += size(row);
        bytes <= PAGE_LARGEST
    };
    rows.iter().take_while(|row| fit(row)).count().max(1)
}

/// Returns the bytes that a row takes as JSON.
fn size<T: Serialize>(row: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written fails where it is answered.
    serde_json::to_writer(&mut count, row).ok();
    count.0
}

/// Reads a page of possibly large rows, and one row more if there is one: some at a time, until the page is full.
pub(super) async fn read_large<T, F>(
    page: &Page,
    key: impl Fn(&T) -> String,
    read: impl Fn(Page) -> F,
) -> Result<Vec<T>, StoreError>
where
    T: Serialize,
    F: Future<Output = Result<Vec<T>, StoreError>>,
{
    let wanted = page.limit.saturating_add(1);
    let (mut rows, mut bytes, mut after) = (Vec::new(), 0, page.after.clone());
    loop {
        let limit = ROWS_AT_ONCE.min(wanted - u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let part = read(Page { after, limit }).await?;
        let is_last = u32::try_from(part.len()).unwrap_or(u32::MAX) < limit;
        for row in part {
            bytes += size(&row);
            rows.push(row);
        }
        let is_full = rows.len() >= usize::try_from(wanted).unwrap_or(usize::MAX);
        if is_last || is_full || bytes > PAGE_LARGEST {
            return Ok(rows);
        }
        after = rows.last().map(&key);
    }
}

/// Returns the page to ask the store for: one row more than asked for.
pub(super) fn one_more(page: &Page) -> Page {
    Page { after: page.after.clone(), limit: page.limit + 1 }
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

    fn row(number: usize, bytes: usize) -> (usize, String) {
        (number, "x".repeat(bytes))
    }

    #[tokio::test]
    async fn a_page_is_bounded_in_bytes_and_misses_nothing() {
        let all: Vec<_> =
            (0..97).map(|it| row(it, if it % 7 == 0 { 1 << 20 } else { 10 })).collect();
        let read = async |part: Page| {
            let after = part.after.map_or(0, |after| after.parse::<usize>().unwrap() + 1);
            let rows = all.iter().skip(after).take(part.limit as usize);
            Ok::<_, StoreError>(rows.cloned().collect::<Vec<_>>())
        };
        let key = |row: &(usize, String)| row.0.to_string();
        for limit in [3, 20, 97, 500] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = page(Some(&limit.to_string()), cursor.as_deref()).unwrap();
                let rows = read_large(&page, key, read).await.unwrap();
                assert!(rows.len() <= limit + 1);
                let Json(answered) = items(rows, page.limit, key);
                assert!(answered.items.iter().map(size).sum::<usize>() <= PAGE_LARGEST);
                assert!(!answered.items.is_empty());
                seen.extend(answered.items);
                cursor = answered.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), all.len(), "{limit}");
            assert!(seen.iter().map(|it| it.0).eq(0..97), "{limit}");
        }
    }

    #[test]
    fn a_row_that_is_larger_than_a_page_has_one_for_itself() {
        let large = row(1, PAGE_LARGEST + 1);
        let Json(page) = items(vec![large, row(2, 1)], 10, |row| row.0.to_string());
        assert_eq!(page.items.len(), 1);
        assert!(page.next_cursor.is_some());
    }
}
