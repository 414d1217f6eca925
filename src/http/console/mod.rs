//! The console: pages for the seller's operator, made on the server.
//!
//! A page reads and writes by the same verbs of the store as the API, and has no rules of its own. Each page works without
//! scripts. Its file, its template and its path carry the same word.
//!
//! - A handler answers with a page or with a problem; the guard makes the page that says what went wrong.
//! - Whoever opens a page has signed in, where a token is set; what a role may not see or do is refused before the page.
//! - A form that changes something carries its session's token, and comes from this origin. One that is refused is shown
//!   again on its page, with what was typed.

mod activity;
mod acts;
mod assets;
mod charts;
mod choices;
mod customer;
mod customers;
mod erase;
mod events;
mod features;
mod guard;
mod integration;
mod listings;
mod metering;
mod mistakes;
mod months;
mod names;
mod notifications;
mod overview;
mod overview_usage;
mod parts;
mod plans;
mod product_remove;
mod products;
mod resolve;
mod sandbox;
mod sandbox_acts;
mod sandbox_control;
mod sandbox_market;
mod sandbox_seller;
mod search;
mod session;
mod settings;
mod sign_in;
mod subscriptions;
mod times;
mod ways_back;
mod wording;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tower::ServiceExt as _;

use super::{ApiState, Problem};
use crate::domain::api_token::Permission;
use guard::Guard;
use parts::Fault;
use sandbox_control::Control;

pub use session::Sessions;

/// Returns the routes of every page.
pub(super) fn router(state: &ApiState) -> Router<ApiState> {
    let group = |permission, routes: &[Page], pages: &Router| {
        let guard = Guard { state: state.clone(), permission, pages: pages.clone() };
        let all = routes.iter().fold(Router::new(), |all, (path, make)| all.route(path, make()));
        all.route_layer(from_fn_with_state(guard, guard::guard))
    };
    let control = Control::of(&state.aws).map(Arc::new);
    let on_sandbox = |routes: Router<ApiState>| match &control {
        Some(control) => routes.layer(Extension(Arc::clone(control))),
        None => Router::new(),
    };
    let none = Router::new();
    let pages = group(Permission::Read, PAGES, &none).merge(on_sandbox(group(
        Permission::Read,
        SANDBOX,
        &none,
    )));
    let again = pages.clone().with_state(state.clone());
    let actions = group(Permission::Operate, ACTIONS, &again);
    let administration = group(Permission::Administer, ADMINISTRATION, &again);
    let sandbox = on_sandbox(group(Permission::Operate, SANDBOX_ACTIONS, &again));
    let read = Guard { state: state.clone(), permission: Permission::Read, pages: none };
    let for_readers = |routes: Router<ApiState>| {
        routes.route_layer(from_fn_with_state(read.clone(), guard::guard))
    };
    let (back, sandbox_back) = ways_back::routes();
    let back = for_readers(back).merge(on_sandbox(for_readers(sandbox_back)));
    let open = Router::new()
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-out", post(sign_in::leave).get(sign_in::left))
        .route("/assets/{name}", get(assets::serve));
    let guarded = pages.merge(actions).merge(administration).merge(sandbox).merge(back);
    guarded.merge(open).layer(from_fn(secure))
}

/// Returns what answers a browser where there is no page: a page that says so, to those who may open pages.
pub(super) fn nothing_here(state: &ApiState) -> Router {
    let guard = Guard { state: state.clone(), permission: Permission::Read, pages: Router::new() };
    let explain = async |Extension(Explained(fault)): Extension<Explained>| fault;
    Router::new()
        .fallback(explain)
        .layer(from_fn_with_state(guard, guard::guard))
        .layer(from_fn(secure))
}

/// A problem that a page is to explain.
#[derive(Clone)]
struct Explained(Fault);

/// Has a problem explained to a browser.
pub(super) async fn explain(pages: Router, mut request: Request, problem: Problem) -> Response {
    request.extensions_mut().insert(Explained(problem.into()));
    match pages.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
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
    ("/customers/{id}", || get(customer::show)),
    ("/customers/{id}/erase", || get(erase::ask)),
    ("/activity", || get(activity::list)),
    ("/events", || get(events::list)),
    ("/subscriptions", || get(subscriptions::list)),
    ("/subscriptions/{id}", || get(subscriptions::show)),
    ("/products", || get(products::list)),
    ("/products/{id}", || get(products::show)),
    ("/products/{id}/remove", || get(product_remove::ask)),
    ("/plans", || get(plans::list)),
    ("/plans/{id}", || get(plans::show)),
    ("/plans/{id}/publish", || get(plans::ask_publish)),
    ("/plans/{id}/archive", || get(plans::ask_archive)),
    ("/features", || get(features::list)),
    ("/features/{id}", || get(features::show)),
    ("/integration", || get(integration::show)),
    ("/integration/template/{format}", || get(integration::template)),
    ("/integration/remove", || get(integration::ask_remove)),
    ("/listings", || get(listings::list)),
    ("/listings/{entity}/import", || get(listings::ask_import)),
    ("/metering/months", || get(months::current)),
    ("/metering/months/{month}", || get(months::show)),
    ("/metering/months/{month}/csv", || get(months::file)),
    ("/metering/resolve", || get(resolve::ask)),
    ("/search", || get(search::show)),
];

/// What forms do, for operators.
const ACTIONS: &[Page] = &[
    ("/metering/records/{id}/resolve", || post(metering::resolve)),
    ("/notifications/{id}/discard", || post(notifications::discard)),
    ("/notifications/{id}/replay", || post(notifications::replay)),
    ("/customers", || post(customer::put)),
    ("/customers/{id}/erase", || post(erase::erase)),
    ("/customers/{id}/unlink", || post(customer::unlink)),
    ("/metering/resolve", || post(resolve::resolve)),
    ("/events/test", || post(events::test)),
    ("/events/pause", || post(events::pause)),
    ("/events/resume", || post(events::resume)),
    ("/events/replay", || post(events::replay)),
    ("/subscriptions", || post(subscriptions::put)),
    ("/subscriptions/{id}/cancel", || post(subscriptions::cancel)),
    ("/products/{id}/remove", || post(product_remove::remove)),
    ("/products/{id}/sync", || post(products::sync)),
    ("/products/{id}/confirm-endings", || post(products::confirm_endings)),
    ("/plans", || post(plans::put)),
    ("/plans/{id}/entitlements", || post(plans::entitle)),
    ("/plans/{id}/entitlements/remove", || post(plans::remove_entitlement)),
    ("/plans/{id}/discard", || post(plans::discard)),
    ("/plans/{id}/publish", || post(plans::publish)),
    ("/plans/{id}/archive", || post(plans::archive)),
    ("/features", || post(features::put)),
    ("/listings/{entity}/import", || post(listings::import)),
];

/// The pages and forms about the connection to AWS and the settings.
const ADMINISTRATION: &[Page] = &[
    ("/settings", || get(settings::show)),
    ("/integration/connect", || post(integration::connect)),
    ("/integration/remove", || post(integration::remove)),
];

/// The page of the sandbox, which is there only where the daemon runs against one.
const SANDBOX: &[Page] = &[("/sandbox", || get(sandbox::show))];

/// What its forms do.
const SANDBOX_ACTIONS: &[Page] = &[
    ("/sandbox/agreements", || post(sandbox_acts::change)),
    ("/sandbox/clock", || post(sandbox_acts::pass_time)),
    ("/sandbox/delivery", || post(sandbox_acts::deliver)),
    ("/sandbox/dimensions", || post(sandbox_acts::lose)),
    ("/sandbox/faults", || post(sandbox_acts::disturb)),
    ("/sandbox/faults/clear", || post(sandbox_acts::calm)),
    ("/sandbox/listings", || post(sandbox_acts::listings)),
    ("/sandbox/messages", || post(sandbox_acts::send)),
    ("/sandbox/purchases", || post(sandbox_acts::buy)),
    ("/sandbox/roles", || post(sandbox_acts::role)),
    ("/sandbox/usage", || post(sandbox_seller::use_up)),
];

/// Reports whether a path is a page's, and not the API's or AWS's.
pub(super) fn is_page(path: &str) -> bool {
    !path.starts_with("/v1/") && !path.starts_with("/aws/")
}

/// What a page may load and who may frame it: nothing from elsewhere, nobody.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'";

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
