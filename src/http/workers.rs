//! `GET /v1/workers`: the daemons on the database.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::Problems;
use super::paging::{Items, whole};
use super::{ApiState, Problem};
use crate::store::Worker;

/// A daemon on the database.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkerView {
    /// The worker's id, made at its start.
    id: String,
    /// Its host and process.
    name: String,
    /// The version of the program.
    version: String,
    /// The time of its start.
    since: Timestamp,
    /// The last time that it said that it lives: every two seconds, by the server's clock.
    last_seen_at: Timestamp,
    /// The work that it alone does at the moment: `background` is sweeps, looks at buyers, closing and sending, the
    /// webhook, pruning.
    leases: Vec<String>,
    /// Set if it is the one that answers this.
    is_answering: bool,
}

/// Lists the workers on the database.
///
/// On a file there is one. On a server there are as many daemons as run on it; where one dies it is left out after some
/// seconds, and another takes over its leases. The oldest come first.
#[utoipa::path(get, path = "/v1/workers", tag = "operations", operation_id = "listWorkers",
    responses((status = 200, body = Items<WorkerView>), Problems))]
pub(super) async fn list(
    State(state): State<ApiState>,
) -> Result<Json<Items<WorkerView>>, Problem> {
    let mut workers = state.store.workers().await?;
    let this = state.membership.worker();
    if workers.is_empty() {
        workers.push(Worker { last_seen: state.clock.now(), ..this.clone() });
    }
    let view = |it: Worker| WorkerView {
        is_answering: it.id == this.id,
        id: it.id,
        name: it.name,
        version: it.version,
        since: it.since,
        last_seen_at: it.last_seen,
        leases: it.leases,
    };
    Ok(whole(workers.into_iter().map(view).collect()))
}
