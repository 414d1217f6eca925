//! The HTTP API: routes, problem details, authentication.

mod access;
mod account_mapping;
mod activity;
mod admission;
mod body_budget;
pub mod browser;
mod catalogue_problems;
mod client_ip;
mod console;
mod consume;
mod customers;
mod events;
mod extract;
mod features;
mod findings;
mod integration;
mod manifest;
mod metering;
mod metering_export;
mod metering_resolve;
mod note;
mod notifications;
mod openapi;
mod paging;
mod plans;
mod probes;
mod problem;
mod products;
mod public_request;
mod refused_tokens;
mod registration_pages;
mod registration_redirect;
mod registrations;
mod routes;
mod serve;
mod sns;
mod status;
mod subscriptions;
mod timeline;
mod token_resolver;
mod tokens;
mod usage;
mod usage_history;
mod usage_series;
mod webhook;
mod webhook_description;
mod workers;
mod write_timeout;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use metrics_exporter_prometheus::PrometheusHandle;
use reqwest::Url;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::AccessChecks;
use crate::aws;
use crate::clock::Clock;
use crate::domain::ledger::{AgeLimits, Timing};
use crate::health::Health;
use crate::intake::QueueGauge;
use crate::intake::sns::SnsEndpoint;
use crate::store::{Membership, Store};
use crate::webhook::Receiver;

use browser::Hosts;
pub use console::Sessions;
pub use findings::RecentFindings;
pub use metering_export::{hour as read_hour, month as read_month};
use openapi::{Operations, Problems};
pub use paging::read_page;
pub use problem::Problem;
pub use registration_redirect::{NotPosted, Posted};
pub use serve::Bound;
pub use token_resolver::Arrivals;
pub use tokens::{CLI_AGENT, Tokens};
pub use usage::{UsageRead, read as read_usage};

/// The state that handlers share; cloning it costs little: each request makes some clones.
#[derive(Clone)]
pub struct ApiState(Arc<ApiParts>);

impl ApiState {
    /// Makes the state of these parts.
    pub fn new(parts: ApiParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for ApiState {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0
    }
}

/// The parts of the daemon that the API uses.
pub struct ApiParts {
    /// The database.
    pub store: Store,
    /// This worker's part in the database.
    pub membership: Membership,
    /// The connection to AWS.
    pub aws: aws::Connection,
    /// The entitlement checks.
    pub access: AccessChecks,
    /// The clock.
    pub clock: Clock,
    /// The time at which the daemon started.
    pub started_at: Timestamp,
    /// The time between two sweeps.
    pub sweep_interval: SignedDuration,
    /// The health of the daemon's parts.
    pub health: Health,
    /// The backlog of the queue; none where no queue is set.
    pub queue: Option<QueueGauge>,
    /// The endpoint that takes in SNS messages.
    pub sns: SnsEndpoint,
    /// The application that events are posted to; none where no webhook is set.
    pub webhook: Option<Arc<Receiver>>,
    /// The redirect of buyers whom AWS sends; none where it is not set up.
    pub registration_redirect: Option<RegistrationRedirect>,
    /// The state of arriving buyers, at the redirect and by the API.
    pub arrivals: Arrivals,
    /// The tokens that open the API.
    pub tokens: Tokens,
    /// The folder of a proxy's in which the console is, as `/marketd`; empty where there is none.
    pub path_prefix: Arc<str>,
    /// Every setting: its key, its value (secrets masked) and its origin.
    pub settings: Vec<(String, String, String)>,
    /// The path of the file that settings were read from; none where there was none.
    pub settings_file: Option<String>,
    /// The sessions of those who have signed in to the console.
    pub sessions: Sessions,
    /// The queue's URL, for the policies and checks that name it.
    pub queue_url: Option<String>,
    /// The times at which hours freeze and until which they are worth sending.
    pub metering_timing: Timing,
    /// The limits on the age of usage.
    pub usage_ages: AgeLimits,
    /// The recorder that `/metrics` renders.
    pub metrics: Option<PrometheusHandle>,
    /// What a person should look at, as of a moment ago.
    pub recent_findings: RecentFindings,
    /// The seller that the pages for buyers name.
    pub seller: Seller,
    /// Cancelled when the daemon stops: requests that wait for something are answered then.
    pub stopping: CancellationToken,
}

/// The seller, as buyers see it.
#[derive(Clone, Debug, Default)]
pub struct Seller {
    /// The seller's name.
    pub name: Option<String>,
    /// The page where buyers find help.
    pub support_url: Option<Url>,
    /// The seller's sign-up page.
    pub sign_up: Option<Url>,
}

impl Seller {
    /// Returns the link for questions: the support page, or the site of the sign-up page.
    fn link(&self) -> Option<Url> {
        let site = || self.sign_up.as_ref()?.join("/").ok();
        self.support_url.clone().or_else(site)
    }
}

/// The redirect of buyers whom AWS sends to `/aws/register`.
pub struct RegistrationRedirect {
    /// The seller's sign-up page.
    pub redirect_url: Url,
    /// The time for which the reference that they carry there is valid.
    pub lifetime: SignedDuration,
}

/// The API's routes, and the rules for admitting requests.
pub struct Api {
    router: Router,
    /// The tokens. Where one is set, whoever has it need not be told from a web page.
    tokens: Tokens,
    /// The folder of a proxy's, which may be left in the paths of requests.
    path_prefix: Arc<str>,
}

/// A marker on a probe that may be answered with what only the seller's own see, by the rules for an API without a
/// token.
#[derive(Clone, Copy)]
struct Local;

impl Api {
    /// Makes the API over this state.
    pub fn new(state: ApiState) -> Self {
        let (tokens, path_prefix) = (state.tokens.clone(), Arc::clone(&state.path_prefix));
        Self { tokens, path_prefix, router: router(state) }
    }

    /// Makes the part of the API that is its probes.
    pub fn probes(state: ApiState) -> Self {
        let (tokens, path_prefix) = (state.tokens.clone(), Arc::clone(&state.path_prefix));
        let (routes, _) = routes::probes().split_for_parts();
        let router = routes
            .fallback(async |request: Request| no_such_path(&request))
            .method_not_allowed_fallback(async |request: Request| no_such_method(&request))
            .layer(CatchPanicLayer::custom(panicked))
            .with_state(state);
        Self { router, tokens, path_prefix }
    }

    #[cfg(test)]
    fn of(router: Router) -> Self {
        Self { router, tokens: Tokens::default(), path_prefix: "".into() }
    }

    fn router(&self) -> Router {
        self.router.clone()
    }

    /// Takes the folder of a proxy's from the path of a request.
    fn strip_prefix<B>(&self, request: &mut Request<B>) {
        if self.path_prefix.is_empty() {
            return;
        }
        let uri = request.uri();
        let Some(rest) = uri.path().strip_prefix(&*self.path_prefix) else { return };
        if !(rest.is_empty() || rest.starts_with('/')) {
            return;
        }
        let path = if rest.is_empty() { "/" } else { rest };
        let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = format!("{path}{query}").parse().ok();
        if let Ok(stripped) = Uri::from_parts(parts) {
            *request.uri_mut() = stripped;
        }
    }

    /// Admits a request to the API, unless a web page may have sent it.
    fn admit<B>(&self, hosts: Hosts, request: &Request<B>) -> Result<(), Problem> {
        if !self.tokens.is_empty() || request.uri().path() == DESCRIPTION {
            return Ok(());
        }
        // A page's forms carry a token of their own.
        let checked = if console::is_page(request.uri().path()) {
            browser::check_page(hosts, request.uri(), request.headers())
        } else {
            browser::check(hosts, request.method(), request.uri(), request.headers())
        };
        checked
            .map_err(|foreign| Problem::new(foreign.status(), foreign.kind(), foreign.to_string()))
    }

    /// Marks a probe that the seller's own send.
    fn introduce<B>(&self, hosts: Hosts, request: &mut Request<B>) {
        let is_local = self.tokens.is_empty() && self.admit(hosts, request).is_ok();
        if request.uri().path() == "/readyz" && is_local {
            request.extensions_mut().insert(Local);
        }
    }
}

/// The path of the API's description.
const DESCRIPTION: &str = "/openapi.json";

/// The API's description, written when it is first asked for: it does not change while the program runs.
static DESCRIBED: LazyLock<Bytes> =
    LazyLock::new(|| description().to_json().unwrap_or_default().into());

/// The id of each operation, described when something is changed for the first time.
static OPERATIONS: LazyLock<Operations> =
    LazyLock::new(|| openapi::operation_ids(&mut routes::guarded(None).into_openapi()));

/// Makes every route.
fn router(state: ApiState) -> Router {
    let (guarded, _) = routes::guarded(Some((&state, &OPERATIONS))).split_for_parts();
    let (open, _) = routes::open().split_for_parts();
    let pages = console::nothing_here(&state);
    let at_a_loss = move |kind: fn(&Request) -> Problem| {
        let pages = pages.clone();
        async move |request: Request| {
            let problem = kind(&request);
            if browser::wants_page(&request) {
                return console::explain(pages, request, problem).await;
            }
            problem.into_response()
        }
    };
    let describe = async || ([(header::CONTENT_TYPE, "application/json")], DESCRIBED.clone());
    guarded
        .merge(open)
        .merge(console::router(&state))
        .route(DESCRIPTION, get(describe))
        // A seller may have written the address with a slash at its end.
        .route(
            "/aws/register",
            get(registration_redirect::show).fallback(registration_redirect::no_such_method),
        )
        .route(
            "/aws/register/",
            post(registration_redirect::register)
                .get(registration_redirect::show)
                .fallback(registration_redirect::no_such_method),
        )
        .fallback(at_a_loss(no_such_path))
        .method_not_allowed_fallback(at_a_loss(no_such_method))
        // One layer: each would have every request allocate a future more.
        .layer((CatchPanicLayer::custom(panicked), DefaultBodyLimit::max(extract::BODY_LIMIT)))
        .with_state(state)
}

/// Describes every route, as `/openapi.json` answers it.
fn description() -> utoipa::openapi::OpenApi {
    let mut description = routes::guarded(None).into_openapi();
    description.merge(routes::open().into_openapi());
    openapi::complete(&mut description);
    webhook_description::describe_webhooks(&mut description);
    description
}

fn no_such_path(request: &Request) -> Problem {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", detail)
}

fn no_such_method(request: &Request) -> Problem {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over by value")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = said, "a request handler panicked");
    let detail = "this is a fault in marketd; the log has the details";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}
