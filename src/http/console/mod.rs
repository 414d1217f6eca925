//! The console: pages for the seller's operator, made on the server.
//!
//! A page reads and writes by the same verbs of the store as the API, and has no rules of its own. Each page works without
//! scripts. Its file, its template and its path carry the same word.
//!
//! - Whoever opens a page has signed in, where a token is set; what a role may not see or do is refused before the page.
//! - A form that changes something carries its session's token, and comes from this origin.

mod activity;
mod assets;
mod customers;
mod guard;
mod metering;
mod notifications;
mod overview;
mod parts;
mod session;
mod sign_in;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};

use super::ApiState;
use crate::domain::api_token::Permission;

pub use session::Sessions;

/// Returns the routes of every page.
pub(super) fn router(state: &ApiState) -> Router<ApiState> {
    let group = |permission, routes: &[Page]| {
        let all = routes.iter().fold(Router::new(), |all, (path, make)| all.route(path, make()));
        all.route_layer(from_fn_with_state((state.clone(), permission), guard::guard))
    };
    let pages = group(Permission::Read, PAGES);
    let actions = group(Permission::Operate, ACTIONS);
    let open = Router::new()
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-out", post(sign_in::leave))
        .route("/assets/{name}", get(assets::serve));
    pages.merge(actions).merge(open).layer(from_fn(secure))
}

/// A path, and what makes its routes.
type Page = (&'static str, fn() -> MethodRouter<ApiState>);

/// The pages, which whoever may read may open.
const PAGES: &[Page] = &[
    ("/", || get(overview::show)),
    ("/metering", || get(metering::list)),
    ("/metering/records/{id}", || get(metering::show)),
    ("/notifications", || get(notifications::list)),
    ("/notifications/{id}", || get(notifications::show)),
    ("/customers", || get(customers::list)),
    ("/customers/{id}", || get(customers::show)),
    ("/activity", || get(activity::list)),
];

/// What forms do, for operators.
const ACTIONS: &[Page] = &[
    ("/metering/records/{id}/resolve", || post(metering::resolve)),
    ("/notifications/{id}/replay", || post(notifications::replay)),
];

/// Reports whether a path is a page's, and not the API's or AWS's.
pub(super) fn is_page(path: &str) -> bool {
    !path.starts_with("/v1/") && !path.starts_with("/aws/")
}

/// What a page may load and who may frame it: nothing from elsewhere, nobody.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Adds the headers that keep a page to itself.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
