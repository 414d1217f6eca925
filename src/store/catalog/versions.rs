//! Every version of a plan, and plans that are removed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::plan_rows::{PlanError, entitlements_in, exists, known_plan};
use super::publications::publication_in;
use crate::domain::PlanId;
use crate::domain::event::EventType;
use crate::domain::plan::{Plan, PlanEntitlement, Publication};
use crate::domain::word::Word;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// A version of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlanVersionRow {
    /// Its number.
    pub version: i64,
    /// Its state.
    pub state: VersionState,
    /// The number of subscriptions that have it and are not over.
    pub subscriptions: i64,
    /// Who published it, and when; none for a draft, or if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publication: Option<Publication>,
    /// The entitlements.
    pub entitlements: Vec<PlanEntitlement>,
}

/// The state of a version of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// Nobody's yet.
    Draft,
    /// The version of customers who are not held to an older one.
    Published,
    /// Only for those who are held to it.
    Superseded,
}

impl Word for VersionState {}

impl Store {
    /// Returns the versions of a plan, the newest first.
    pub async fn plan_versions(&self, id: PlanId) -> Result<Vec<PlanVersionRow>, PlanError> {
        self.read(move |connection| versions_in(connection, &id)).await
    }

    /// Removes a plan that nobody ever had.
    pub async fn remove_plan(&self, id: PlanId, now: Timestamp) -> Result<Plan, PlanError> {
        self.write(move |connection| remove_in(connection, &id, now)).await
    }
}

fn versions_in(connection: &Connection, id: &PlanId) -> Result<Vec<PlanVersionRow>, PlanError> {
    let published = known_plan(connection, id)?.version;
    let newest: i64 = connection
        .prepare_cached("SELECT version FROM plans WHERE id = ?1")
        .and_then(|mut select| select.query_row([id.as_str()], |row| row.get(0)))
        .during("read a plan's version")?;
    let mut rows = Vec::new();
    for version in (1..=newest).rev() {
        let state = match published {
            Some(published) if version < published => VersionState::Superseded,
            Some(published) if version == published => VersionState::Published,
            _ => VersionState::Draft,
        };
        rows.push(PlanVersionRow {
            version,
            state,
            subscriptions: held_in(connection, id, version, published)?,
            publication: publication_in(connection, id, version)?,
            entitlements: entitlements_in(connection, id, version)?,
        });
    }
    Ok(rows)
}

fn held_in(
    connection: &Connection,
    id: &PlanId,
    version: i64,
    published: Option<i64>,
) -> Result<i64, StoreError> {
    connection
        .prepare_cached(
            "SELECT count(*) FROM subscriptions
             WHERE plan_id = ?1 AND coalesce(plan_version, ?3) = ?2 AND ended_at_ms IS NULL
               AND status <> 'failed'",
        )
        .and_then(|mut select| {
            select.query_row((id.as_str(), version, published), |row| row.get(0))
        })
        .during("count a version's subscriptions")
}

pub(crate) fn remove_in(
    connection: &Connection,
    id: &PlanId,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let plan = known_plan(connection, id)?;
    let subscribed = "SELECT 1 FROM subscriptions WHERE plan_id = ?1";
    let reason = if plan.version.is_some() {
        Some("it was published")
    } else if !plan.aws.is_empty() {
        Some("AWS sells it, as its product's mapping says")
    } else if exists(connection, subscribed, id.as_str())? {
        Some("customers are or were subscribed to it")
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(PlanError::InUse { id: id.clone(), reason });
    }
    for statement in
        ["DELETE FROM plan_entitlements WHERE plan_id = ?1", "DELETE FROM plans WHERE id = ?1"]
    {
        connection
            .prepare_cached(statement)
            .and_then(|mut delete| delete.post([id.as_str()]))
            .during("remove a plan")?;
    }
    append_event_in(connection, EventType::PlanRemoved, None, &plan, now)?;
    Ok(plan)
}
