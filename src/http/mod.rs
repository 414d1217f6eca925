//! The HTTP API: routes, problem details, authentication.

mod access;
mod auth;
mod catalog;
mod catalogue;
mod customers;
mod extract;
mod integration;
mod ledger_files;
mod metering;
mod notifications;
mod ops;
mod problem;
mod registrations;
mod serve;
mod subscriptions;
mod usage;
mod usage_history;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{delete, get, post, put};
use jiff::SignedDuration;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::AccessChecks;
use crate::aws;
use crate::clock::Clock;
use crate::health::Health;
use crate::store::Store;

pub use problem::Problem;
pub use serve::Bound;

/// What handlers work with; clones share it.
#[derive(Clone)]
pub struct ApiState {
    /// The database.
    pub store: Store,
    /// AWS.
    pub aws: aws::Connection,
    /// What customers may use.
    pub access: AccessChecks,
    /// The time.
    pub clock: Clock,
    /// How the parts stand.
    pub health: Health,
    /// The bearer token.
    pub token: Option<Arc<SecretString>>,
    /// The queue, for the policies and checks that name it.
    pub queue_url: Option<String>,
    /// How old usage may be and still be billed to its own hour.
    pub metering_window: SignedDuration,
    /// What `/metrics` renders.
    pub metrics: Option<PrometheusHandle>,
}

/// Every route.
pub fn router(state: ApiState) -> Router {
    let guarded = Router::new()
        .route(
            "/v1/integration",
            get(integration::show).put(integration::connect).delete(integration::remove),
        )
        .route("/v1/integration/template", get(integration::template))
        .route("/v1/integration/{document}", get(integration::document))
        .route("/v1/listings", get(catalog::listings))
        .route("/v1/listings/{entity_id}", get(catalog::listing))
        .route("/v1/listings/{entity_id}/import", post(catalog::import))
        .route("/v1/products", get(catalog::products))
        .route("/v1/products/{id}", get(catalog::product))
        .route("/v1/products/{id}/sync", post(catalog::sync))
        .route("/v1/products/{id}/licensing", put(catalog::licensing))
        .route("/v1/plans", get(catalog::plans))
        .route("/v1/plans/{id}", get(catalog::plan).put(catalog::put_plan))
        .route("/v1/plans/{id}/publish", post(catalog::publish))
        .route("/v1/plans/{id}/archive", post(catalog::archive))
        .route("/v1/plans/{id}/preview", get(catalog::preview))
        .route("/v1/plans/{id}/draft", delete(catalog::discard_draft))
        .route(
            "/v1/plans/{id}/entitlements/{feature_id}",
            put(catalog::entitle).delete(catalog::remove_entitlement),
        )
        .route("/v1/features", get(catalog::features))
        .route("/v1/features/{id}", get(catalog::feature).put(catalog::put_feature))
        .route("/v1/catalogue", get(catalogue::export).post(catalogue::apply))
        .route("/v1/customers", get(customers::list))
        .route("/v1/customers/{id}", get(customers::show).put(customers::provision))
        .route("/v1/customers/{id}/subscriptions", get(subscriptions::of_customer))
        .route("/v1/customers/{id}/entitlements", get(access::list))
        .route("/v1/customers/{id}/entitlements/{feature_id}", get(access::check))
        .route("/v1/subscriptions", get(subscriptions::list))
        .route("/v1/subscriptions/{id}", get(subscriptions::show).put(subscriptions::put))
        .route("/v1/subscriptions/{id}/cancel", post(subscriptions::cancel))
        .route("/v1/registrations", post(registrations::register))
        .route(
            "/v1/usage",
            post(usage::report)
                .layer(DefaultBodyLimit::max(usage::BODY_LIMIT))
                .get(usage_history::list),
        )
        .route("/v1/usage/{id}", get(usage_history::show))
        .route("/v1/metering/records", get(metering::records))
        .route("/v1/metering/records/{id}", get(metering::record))
        .route("/v1/metering/records/{id}/resolve", post(metering::resolve))
        .route("/v1/metering/balance", get(metering::balance))
        .route("/v1/metering/due", get(metering::due))
        .route("/v1/metering/report", get(ledger_files::report))
        .route("/v1/metering/export", get(ledger_files::export))
        .route("/v1/notifications", get(notifications::list))
        .route("/v1/notifications/{id}", get(notifications::show))
        .route("/v1/notifications/{id}/replay", post(notifications::replay))
        .route("/v1/events", get(notifications::events))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::require_token));
    let open = Router::new()
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics));
    guarded
        .merge(open)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(extract::BODY_LIMIT))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(state)
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-path",
        format!("there is nothing at {}", uri.path()),
    )
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over by value")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = said, "a request handler panicked");
    let detail = "this is a fault in marketd; the log has the details";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}
