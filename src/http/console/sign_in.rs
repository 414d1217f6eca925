//! Signing in and out.

use askama::Template;
use axum::Form;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::Deserialize;

use super::assets;
use super::parts::render;
use super::session::{COOKIE, LIFETIME};
use crate::domain::api_token::Permission;
use crate::http::client_ip::source_of;
use crate::http::public_request::PublicRequest;
use crate::http::{ApiState, browser};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    root: &'a str,
    style: String,
    icon: String,
    next: String,
    fault: Option<&'static str>,
}

/// The page to go to afterwards.
#[derive(Deserialize)]
pub(super) struct Destination {
    next: Option<String>,
}

/// What somebody signs in with.
#[derive(Deserialize)]
pub(super) struct Credentials {
    token: String,
    next: Option<String>,
}

/// Shows the form.
pub(super) async fn show(
    State(state): State<ApiState>,
    Query(destination): Query<Destination>,
) -> Response {
    let next = own_path(destination.next);
    if state.tokens.is_empty() {
        return Redirect::to(&format!("{}{next}", state.path_prefix)).into_response();
    }
    form(&state, StatusCode::OK, next, None)
}

/// Signs somebody in.
pub(super) async fn submit(
    State(state): State<ApiState>,
    incoming: Option<Extension<PublicRequest>>,
    uri: Uri,
    headers: HeaderMap,
    Form(credentials): Form<Credentials>,
) -> Response {
    let next = own_path(credentials.next);
    if browser::check_page(browser::Hosts::Any, &uri, &headers).is_err() {
        return form(
            &state,
            StatusCode::FORBIDDEN,
            next,
            Some("The form was sent from another site."),
        );
    }
    let source =
        source_of(incoming.and_then(|it| it.0.peer), &headers, &state.arrivals.trusted_proxies);
    if !state.sessions.may_try(source) {
        let fault = "Too many wrong tokens were tried from here. Try again in a minute.";
        return form(&state, StatusCode::TOO_MANY_REQUESTS, next, Some(fault));
    }
    let Some(token) = state.tokens.find(credentials.token.trim()) else {
        state.sessions.count_wrong(source);
        return form(&state, StatusCode::UNAUTHORIZED, next, Some("No such token is set."));
    };
    if !token.role.may(Permission::Read) {
        let fault = "The role of this token is app, which has no console. Sign in with one of the role read, operator or admin.";
        return form(&state, StatusCode::FORBIDDEN, next, Some(fault));
    }
    // A session that was there before is no session of whoever signs in now.
    state.sessions.close(&headers);
    let id = state.sessions.open(token);
    let mut cookie = Cookie::build((COOKIE, id)).path("/").http_only(true).same_site(SameSite::Lax);
    cookie = cookie.max_age(age(LIFETIME.as_secs()));
    if is_secure(&headers) {
        cookie = cookie.secure(true);
    }
    let next = Redirect::to(&format!("{}{next}", state.path_prefix));
    ([(header::SET_COOKIE, cookie.build().to_string())], next).into_response()
}

/// Signs somebody out.
pub(super) async fn leave(State(state): State<ApiState>, uri: Uri, headers: HeaderMap) -> Response {
    if browser::check_page(browser::Hosts::Any, &uri, &headers).is_ok() {
        state.sessions.close(&headers);
    }
    let gone = Cookie::build((COOKIE, "")).path("/").http_only(true).same_site(SameSite::Lax);
    let gone = gone.max_age(age(0)).build();
    let sign_in = Redirect::to(&format!("{}/sign-in", state.path_prefix));
    ([(header::SET_COOKIE, gone.to_string())], sign_in).into_response()
}

/// Leads to the first page whoever loads the address of signing out, which signs nobody out.
pub(super) async fn left(State(state): State<ApiState>) -> Redirect {
    Redirect::to(&format!("{}/", state.path_prefix))
}

fn form(
    state: &ApiState,
    status: StatusCode,
    next: String,
    fault: Option<&'static str>,
) -> Response {
    let (root, style, icon) = (&*state.path_prefix, assets::style(), assets::icon());
    let mut response = render(&SignIn { root, style, icon, next, fault });
    *response.status_mut() = status;
    response
}

fn age(seconds: i64) -> cookie::time::Duration {
    cookie::time::Duration::seconds(seconds)
}

/// Returns a path of this console's to go to; whatever leads elsewhere is the start page.
fn own_path(next: Option<String>) -> String {
    let own = next.filter(|next| {
        next.starts_with('/')
            && !next.starts_with("//")
            && next.chars().all(|it| it.is_ascii_graphic() && it != '\\')
    });
    own.unwrap_or_else(|| "/".to_owned())
}

/// Reports whether the browser speaks TLS, by what the proxy before us says.
fn is_secure(headers: &HeaderMap) -> bool {
    let told = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    told == Some("https") || origin.is_some_and(|origin| origin.starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_console_are_gone_to() {
        let rows = [
            (Some("/metering?state=parked"), "/metering?state=parked"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some("/a\r\nset-cookie: x"), "/"),
            (None, "/"),
        ];
        for (next, expected) in rows {
            assert_eq!(own_path(next.map(str::to_owned)), expected);
        }
    }
}
