//! Probes for monitoring: liveness, readiness, metrics.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::tokens::Bearer;
use super::{ApiState, Local, Problem, Problems, findings};
use crate::domain::api_token::Permission;
use crate::health::PartHealth;
use crate::telemetry::Masked;

/// Reports that the process runs.
///
/// Answers `ok` as long as the process can answer at all. For liveness probes; needs no token.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "healthz", responses((status = 200, description = "`ok`", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The daemon's readiness.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    #[schema(value_type = BTreeMap<String, PartHealth>)]
    parts: BTreeMap<&'static str, PartHealth>,
    /// The kinds of what a person should look at, each with how many there are; `GET /v1/status` says more.
    problems: BTreeMap<&'static str, u64>,
}

/// Reports whether the daemon serves.
///
/// 200 once the database is open and the API serves, 503 while it stops. Trouble with AWS, or with a database that is away for
/// a while, shows in the body, not in the status: a restart would not mend it. Needs no token; what AWS says is told only to those who send the token, where one
/// is set.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readyz", responses((status = 200, body = Readiness), Problems))]
pub(super) async fn readyz(
    State(state): State<ApiState>,
    local: Option<Extension<Local>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // Access checks go on from memory while the database is away: nobody is to be sent elsewhere for that.
    let is_away = match state.store.integration().await {
        Err(error) if error.is_passing() => true,
        found => found.map(|_| false)?,
    };
    let may_look = |bearer: Bearer| bearer.role.may(Permission::Read);
    let is_own = if state.tokens.is_empty() {
        local.is_some()
    } else {
        state.tokens.bearer(&headers).is_ok_and(may_look)
    };
    let mut parts = state.health.parts();
    for part in parts.values_mut() {
        let detail = part.detail.take().filter(|_| is_own);
        part.detail = detail.map(|detail| Masked(&detail).to_string());
    }
    let mut problems = BTreeMap::new();
    if !is_away {
        for finding in findings::recent(&state).await?.iter() {
            *problems.entry(finding.kind.as_str()).or_default() += finding.count.unwrap_or(1);
        }
    }
    let ready = !state.stopping.is_cancelled();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(Readiness { ready, parts, problems })).into_response())
}

/// Returns the metrics.
///
/// The format is Prometheus' text format. Needs no token.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics", responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
    match &state.metrics {
        Some(handle) => {
            if let Ok(findings) = findings::recent(&state).await {
                findings::gauge(&findings);
            }
            let media_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, media_type)], handle.render()).into_response()
        }
        None => Problem::new(StatusCode::NOT_FOUND, "no-metrics", "metrics are not collected")
            .into_response(),
    }
}
