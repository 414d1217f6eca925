//! Authentication by the bearer token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::{ApiState, Problem};

/// Lets a request pass if no token is set, or if it carries it.
pub(super) async fn require_token(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = &state.token else {
        return next.run(request).await;
    };
    if carries(request.headers(), token) {
        return next.run(request).await;
    }
    let detail = if given(request.headers()).is_some() {
        "the bearer token is not the one that http.token or http.token_file sets"
    } else {
        "send the token as `Authorization: Bearer …`; the command line takes it from MARKETD_TOKEN"
    };
    let mut response =
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Reports whether a request carries the token.
pub(super) fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    let expected = token.expose_secret().as_bytes();
    given(headers).is_some_and(|given| bool::from(given.as_bytes().ct_eq(expected)))
}

fn given(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}
