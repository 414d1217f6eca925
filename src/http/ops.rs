//! For those who watch the daemon.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::{ApiState, Problem};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The database is open and the API serves. Trouble with AWS shows in the body, not in the status: starting
/// anew would not mend it.
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    state.store.integration().await?;
    Ok(Json(json!({"ready": true, "parts": state.health.parts()})))
}

/// The metrics in Prometheus' text format.
pub(super) async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
    match &state.metrics {
        Some(handle) => {
            let media_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, media_type)], handle.render()).into_response()
        }
        None => Problem::new(StatusCode::NOT_FOUND, "no-metrics", "metrics are not collected")
            .into_response(),
    }
}
