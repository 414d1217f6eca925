//! `GET /v1/status`: how the daemon stands, and what a person should look at.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiState, Problem, Problems, findings};
use crate::diagnosis::Finding;
use crate::health::PartHealth;
use crate::intake::{QueueBacklog, QueueGauge};
use crate::store::{Balance, Overview};

/// The daemon's state.
#[derive(Serialize, ToSchema)]
pub(super) struct DaemonStatus {
    /// The version of the program.
    version: &'static str,
    /// The time at which it started.
    started_at: Timestamp,
    /// The seconds since then.
    uptime_seconds: i64,
    /// The engine of the database: `sqlite` or `postgresql`.
    engine: &'static str,
    /// The number of daemons on the database.
    workers: usize,
    /// The number of customers, subscriptions, and of what waits.
    counts: Overview,
    /// The usage of all products, in units.
    usage: Balance,
    /// The nearest time until which AWS takes usage that is frozen and not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_deadline: Option<Timestamp>,
    /// The time at which the last message from AWS was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_message_at: Option<Timestamp>,
    /// The backlog of the queue that notifications come to; null where no queue is set.
    #[schema(required = true)]
    queue: Option<QueueBacklog>,
    /// The last and the next sweep.
    sweep: Sweep,
    /// The events that the webhook has not posted yet; none where no webhook is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_backlog: Option<u64>,
    /// The time since when a person has the webhook post nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_paused_at: Option<Timestamp>,
    /// The health of the daemon's parts.
    #[schema(value_type = BTreeMap<String, PartHealth>)]
    parts: BTreeMap<&'static str, PartHealth>,
    /// What a person should look at, that which costs money first.
    problems: Vec<Finding>,
}

/// The sweeps: looks at everything that AWS lists.
#[derive(Serialize, ToSchema)]
pub(super) struct Sweep {
    /// The time at which the last one went to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<Timestamp>,
    /// The time at which the next one is due; an import or a person brings it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
}

/// Returns how the daemon stands.
///
/// Counts, deadlines, the health of its parts, and `problems`: what a person should look at, with what it means for money
/// or access, what to do, and where to see more.
#[utoipa::path(get, path = "/v1/status", tag = "operations", operation_id = "showStatus",
    responses((status = 200, body = DaemonStatus), Problems))]
pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<DaemonStatus>, Problem> {
    let now = state.clock.now();
    let counts = state.store.overview().await?;
    let problems = findings::all(&state, &counts).await?;
    let last_at = state.health.last_ok("sweep");
    let parts = state.health.parts();
    let webhook = state.store.webhook_state().await?;
    let waiting = webhook.lanes.values().map(|lane| lane.waiting).sum();
    Ok(Json(DaemonStatus {
        version: env!("CARGO_PKG_VERSION"),
        started_at: state.started_at,
        uptime_seconds: now.duration_since(state.started_at).as_secs().max(0),
        engine: if state.store.path().is_some() { "sqlite" } else { "postgresql" },
        workers: state.store.workers().await?.len().max(1),
        counts,
        usage: Balance::total(state.store.metering_balance().await?.values()),
        next_deadline: state.store.nearest_deadline(now).await?,
        last_message_at: state.store.last_received_at().await?,
        queue: state.queue.as_ref().map(QueueGauge::backlog),
        sweep: Sweep {
            last_at,
            next_at: last_at.and_then(|at| at.checked_add(state.sweep_interval).ok()),
        },
        webhook_backlog: state.webhook.as_ref().map(|_| waiting),
        webhook_paused_at: webhook.paused_at.filter(|_| state.webhook.is_some()),
        parts,
        problems,
    }))
}
