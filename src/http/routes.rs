//! Every route of the API, in groups by the permission that they ask for.

use axum::extract::DefaultBodyLimit;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::openapi;
use super::tokens::{Group, Guards};
use super::{
    ApiState, access, account_mapping, activity, consume, customers, events, features, integration,
    manifest, metering, metering_export, metering_resolve, notifications, plans, probes, products,
    registration_redirect, registrations, sns, status, subscriptions, timeline, usage,
    usage_history, usage_series, webhook, workers,
};
use crate::domain::api_token::Permission;

/// Returns the routes that need a token, where one is set, in groups by the permission that they ask for. They are
/// guarded unless they are only to be described.
pub(super) fn guarded(guards: Option<Guards<'_>>) -> OpenApiRouter<ApiState> {
    let groups = [
        (Group::of(Permission::AppRead), app_reads()),
        (Group::of(Permission::AppWrite), app_writes()),
        (Group::reports(), app_reports()),
        (Group::of(Permission::Read), reads()),
        (Group::of(Permission::Operate), writes()),
        (Group::of(Permission::Administer), administration()),
    ];
    let all = OpenApiRouter::with_openapi(openapi::Api::openapi());
    groups.into_iter().fold(all, |all, (group, routes)| all.merge(group.guard(guards, routes)))
}

/// Returns what an application reads: its customers, what they may use, what they bought and used, and its news.
fn app_reads() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(access::list))
        .routes(routes!(access::check))
        .routes(routes!(access::check_many))
        .routes(routes!(customers::list))
        .routes(routes!(customers::show))
        .routes(routes!(subscriptions::of_customer))
        .routes(routes!(subscriptions::list))
        .routes(routes!(subscriptions::show))
        .routes(routes!(registrations::list))
        .routes(routes!(registrations::show))
        .routes(routes!(usage_history::list))
        .routes(routes!(usage_series::show))
        .routes(routes!(usage_history::show))
        .routes(routes!(plans::list))
        .routes(routes!(plans::show))
        .routes(routes!(features::list))
        .routes(routes!(features::show))
        .routes(routes!(events::list))
}

/// Returns what an application changes.
fn app_writes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(customers::provision))
        .routes(routes!(registrations::register))
}

/// Returns what an application reports.
fn app_reports() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(usage::report))
        .layer(DefaultBodyLimit::max(usage::BODY_LIMIT))
        // After the layer: an event is as small as any other body.
        .routes(routes!(consume::consume))
}

/// Returns what only people read, and programs that look after the daemon.
fn reads() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(timeline::show))
        .routes(routes!(integration::show))
        .routes(routes!(integration::template))
        .routes(routes!(integration::document))
        .routes(routes!(products::listings))
        .routes(routes!(products::listing))
        .routes(routes!(products::products))
        .routes(routes!(products::product))
        .routes(routes!(products::show_licensing))
        .routes(routes!(plans::versions))
        .routes(routes!(plans::preview))
        .routes(routes!(manifest::export))
        .routes(routes!(metering::records))
        .routes(routes!(metering::record))
        .routes(routes!(metering::balance))
        .routes(routes!(metering::due))
        .routes(routes!(metering_export::report))
        .routes(routes!(metering_export::export))
        .routes(routes!(notifications::list))
        .routes(routes!(notifications::show))
        .routes(routes!(webhook::show))
        .routes(routes!(webhook::deliveries))
        .routes(routes!(activity::list))
        .routes(routes!(status::show))
        .routes(routes!(workers::list))
}

/// Returns what an operator changes.
fn writes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(products::import))
        .routes(routes!(products::remove))
        .routes(routes!(products::sync))
        .routes(routes!(products::confirm_endings))
        .routes(routes!(products::licensing))
        .routes(routes!(plans::put, plans::remove))
        .routes(routes!(plans::publish))
        .routes(routes!(plans::archive))
        .routes(routes!(plans::discard_draft))
        .routes(routes!(plans::entitle, plans::remove_entitlement))
        .routes(routes!(features::put))
        .routes(routes!(manifest::apply))
        .routes(routes!(customers::unlink))
        .routes(routes!(customers::erase))
        .routes(routes!(account_mapping::import))
        .routes(routes!(subscriptions::put, subscriptions::end))
        .routes(routes!(subscriptions::cancel))
        .routes(routes!(metering_resolve::one))
        .routes(routes!(metering_resolve::all))
        .routes(routes!(notifications::replay))
        .routes(routes!(notifications::discard))
        .routes(routes!(webhook::test))
        .routes(routes!(webhook::pause))
        .routes(routes!(webhook::resume))
        .routes(routes!(webhook::replay))
}

/// Returns what changes the connection to AWS.
fn administration() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(integration::connect, integration::remove))
}

/// Returns the routes that need no token: AWS's endpoints and the probes.
pub(super) fn open() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(registration_redirect::register))
        .routes(routes!(sns::receive))
        .merge(probes())
}

/// Returns the routes of those who watch the daemon.
pub(super) fn probes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
}
