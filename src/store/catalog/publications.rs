//! Publications: who made a version of a plan what customers have, and when.

use jiff::Timestamp;

use crate::domain::PlanId;
use crate::domain::api_token::LOCAL;
use crate::domain::plan::Publication;
use crate::store::base::activity::current_actor;
use crate::store::base::columns::{millis, timestamp};
use crate::store::engine::sql::{Connection, OptionalExtension, named_params};
use crate::store::{During, StoreError};

/// Notes that a version became what customers have. One that was published before keeps its first publication.
pub(super) fn note_publication_in(
    connection: &Connection,
    plan: &PlanId,
    version: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let actor = current_actor().map_or_else(|| LOCAL.to_owned(), |actor| actor.name);
    connection
        .prepare_cached(
            "INSERT INTO plan_publications (plan_id, version, at_ms, actor)
             VALUES (:plan, :version, :at, :actor) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut insert| {
            insert.post(named_params! {
                ":plan": plan.as_str(),
                ":version": version,
                ":at": millis(now),
                ":actor": actor,
            })
        })
        .during("note who published a plan")?;
    Ok(())
}

/// Returns the publication of a version; none if it was not published, or before this was noted.
pub(super) fn publication_in(
    connection: &Connection,
    plan: &PlanId,
    version: i64,
) -> Result<Option<Publication>, StoreError> {
    connection
        .prepare_cached(
            "SELECT at_ms, actor FROM plan_publications WHERE plan_id = ?1 AND version = ?2",
        )
        .and_then(|mut select| {
            select
                .query_row((plan.as_str(), version), |row| {
                    Ok(Publication { at: timestamp(row.get(0)?), by: row.get(1)? })
                })
                .optional()
        })
        .during("read who published a plan")
}
