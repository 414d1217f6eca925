//! Publishing plans: drafts become what customers have, all of them or the new ones, and archiving.
//!
//! A subscription follows its plan's published version unless it is held to an older one. Publishing for new
//! customers only holds those who are there to what they have.

use jiff::Timestamp;

use super::plan_rows::{PlanError, changed_plan, entitlements_in, known_plan};
use super::publications::note_publication_in;
use super::unbilled::unbilled_in;
use crate::domain::event::EventType;
use crate::domain::plan::{Audience, Plan, PlanStatus};
use crate::domain::rollout::{AffectedGroup, Differences, Preview, compare};
use crate::domain::word::Word;
use crate::domain::{CustomerId, PlanId};
use crate::store::engine::sql::{Connection, OptionalExtension};
use crate::store::{During, Store, StoreError};

/// The most customers of a group that a preview names.
const MOST_NAMED: u32 = 100;

/// The options of publishing a plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publishing {
    /// The audience of the new version.
    pub to: Audience,
    /// The treatment of a plan that is archived.
    pub archived: IfArchived,
    /// The treatment of those who are held to an older version, where the new one is for all.
    pub held: IfHeld,
}

/// The treatment of those who are held to an older version when a plan is published for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfHeld {
    /// They come to the new version.
    #[default]
    Free,
    /// They keep what they have.
    Keep,
}

/// The treatment of an archived plan when it is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfArchived {
    /// It is refused: it would sell again what was taken off the shelf.
    #[default]
    Refuse,
    /// Those who have the plan get the version, and nobody new does.
    Keep,
    /// The plan is sold again.
    Reopen,
}

impl From<Audience> for Publishing {
    fn from(to: Audience) -> Self {
        Self { to, ..Self::default() }
    }
}

impl From<Option<Audience>> for Publishing {
    /// Returns what is meant by an audience that may be left out: whoever was promised an older version keeps it unless
    /// it is said that all come to the new one.
    fn from(to: Option<Audience>) -> Self {
        let held = if to.is_some() { IfHeld::Free } else { IfHeld::Keep };
        Self { held, ..Self::from(to.unwrap_or_default()) }
    }
}

impl Store {
    /// Publishes a plan's newest version.
    pub async fn publish_plan(
        &self,
        id: PlanId,
        how: impl Into<Publishing>,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        let how = how.into();
        self.write(move |connection| publish_in(connection, &id, how, now)).await
    }

    /// Keeps a plan for those who have it.
    pub async fn archive_plan(&self, id: PlanId, now: Timestamp) -> Result<Plan, PlanError> {
        self.write(move |connection| archive_in(connection, &id, now)).await
    }

    /// Drops what was changed and not published.
    pub async fn discard_draft(&self, id: PlanId, now: Timestamp) -> Result<Plan, PlanError> {
        self.write(move |connection| discard_in(connection, &id, now)).await
    }

    /// Previews the changes of publishing a plan's newest version so, and the customers whom they concern.
    pub async fn preview_plan(
        &self,
        id: PlanId,
        how: impl Into<Publishing>,
    ) -> Result<Preview, PlanError> {
        let how = how.into();
        self.read(move |connection| preview_in(connection, &id, how)).await
    }
}

pub(crate) fn archive_in(
    connection: &Connection,
    id: &PlanId,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let plan = known_plan(connection, id)?;
    if plan.status == PlanStatus::Archived {
        return Ok(plan);
    }
    set_status(connection, id, PlanStatus::Archived)?;
    changed_plan(connection, id, EventType::PlanArchived, now)
}

pub(crate) fn discard_in(
    connection: &Connection,
    id: &PlanId,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let plan = known_plan(connection, id)?;
    let Some(draft) = &plan.draft else { return Ok(plan) };
    let during = "discard a plan's draft";
    connection
        .prepare_cached("DELETE FROM plan_entitlements WHERE plan_id = ?1 AND version = ?2")
        .and_then(|mut delete| delete.execute((id.as_str(), draft.version)))
        .during(during)?;
    connection
        .prepare_cached("UPDATE plans SET version = published_version WHERE id = ?1")
        .and_then(|mut update| update.execute([id.as_str()]))
        .during(during)?;
    changed_plan(connection, id, EventType::PlanUpdated, now)
}

pub(crate) fn publish_in(
    connection: &Connection,
    id: &PlanId,
    how: Publishing,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let plan = known_plan(connection, id)?;
    let archived = plan.status == PlanStatus::Archived;
    if archived && how.archived == IfArchived::Refuse {
        return Err(PlanError::Archived(id.clone()));
    }
    let kept = archived && how.archived == IfArchived::Keep;
    let settled = (plan.status == PlanStatus::Published || (kept && plan.version.is_some()))
        && plan.draft.is_none();
    match how.to {
        Audience::All => {
            let freed = match how.held {
                IfHeld::Free => free_in(connection, id)?,
                IfHeld::Keep => 0,
            };
            if settled && freed == 0 {
                return Ok(plan);
            }
        }
        Audience::New => {
            if settled {
                return Ok(plan);
            }
            connection
                .prepare_cached(
                    "UPDATE subscriptions SET plan_version = ?2
                     WHERE plan_id = ?1 AND plan_version IS NULL AND CAST(?2 AS BIGINT) IS NOT NULL",
                )
                .and_then(|mut update| update.post((id.as_str(), plan.version)))
                .during("hold customers to a plan's version")?;
        }
    }
    connection
        .prepare_cached("UPDATE plans SET published_version = version WHERE id = ?1")
        .and_then(|mut update| update.execute([id.as_str()]))
        .during("publish a plan")?;
    note_publication_in(connection, id, newest_in(connection, id)?, now)?;
    if !kept {
        set_status(connection, id, PlanStatus::Published)?;
    }
    changed_plan(connection, id, EventType::PlanPublished, now)
}

/// Lets those who are held to an older version of a plan come to the published one.
fn free_in(connection: &Connection, id: &PlanId) -> Result<usize, StoreError> {
    connection
        .prepare_cached(
            "UPDATE subscriptions SET plan_version = NULL
             WHERE plan_id = ?1 AND plan_version IS NOT NULL",
        )
        .and_then(|mut update| update.execute([id.as_str()]))
        .during("move customers to a plan's new version")
}

/// Lets them come to it although nothing is published; a draft stays nobody's.
pub(crate) fn free_held_in(
    connection: &Connection,
    id: &PlanId,
    now: Timestamp,
) -> Result<(), PlanError> {
    if free_in(connection, id)? > 0 {
        changed_plan(connection, id, EventType::PlanPublished, now)?;
    }
    Ok(())
}

fn set_status(connection: &Connection, id: &PlanId, status: PlanStatus) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE plans SET status = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((id.as_str(), status.word())))
        .during("change a plan's status")?;
    Ok(())
}

fn preview_in(connection: &Connection, id: &PlanId, how: Publishing) -> Result<Preview, PlanError> {
    let plan = known_plan(connection, id)?;
    let version = plan.draft.as_ref().map(|draft| draft.version).or(plan.version);
    let version = match version {
        Some(version) => version,
        None => newest_in(connection, id)?,
    };
    let counts: Vec<(Option<i64>, u32)> = connection
        .prepare_cached(
            "SELECT coalesce(plan_version, ?2) AS held, count(*) FROM subscriptions
             WHERE plan_id = ?1 AND ended_at_ms IS NULL AND status <> 'failed' GROUP BY held ORDER BY held",
        )
        .and_then(|mut select| {
            select
                .query_map((id.as_str(), plan.version), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .during("count a plan's subscriptions")?;
    let mut groups = Vec::with_capacity(counts.len());
    for (held, subscriptions) in counts {
        let before = match held {
            Some(held) => entitlements_in(connection, id, held)?,
            None => Vec::new(),
        };
        let is_held = held != plan.version;
        let keeps = match how.to {
            Audience::All => is_held && how.held == IfHeld::Keep,
            Audience::New => held.is_some(),
        };
        let differences =
            if keeps { Differences::default() } else { compare(&before, plan.newest()) };
        groups.push(AffectedGroup {
            version: held,
            held: is_held,
            keeps,
            subscriptions: subscriptions.into(),
            customers: customers_in(connection, &plan, held)?,
            differences,
        });
    }
    Ok(Preview { version, groups, unbilled: unbilled_in(connection, &plan)? })
}

fn newest_in(connection: &Connection, id: &PlanId) -> Result<i64, StoreError> {
    connection
        .prepare_cached("SELECT version FROM plans WHERE id = ?1")
        .and_then(|mut select| select.query_row([id.as_str()], |row| row.get(0)).optional())
        .map(Option::unwrap_or_default)
        .during("read a plan's version")
}

fn customers_in(
    connection: &Connection,
    plan: &Plan,
    held: Option<i64>,
) -> Result<Vec<CustomerId>, StoreError> {
    connection
        .prepare_cached(
            "SELECT DISTINCT customer_id FROM subscriptions
             WHERE plan_id = ?1 AND coalesce(plan_version, ?2) IS NOT DISTINCT FROM ?3 AND ended_at_ms IS NULL
               AND status <> 'failed' ORDER BY customer_id LIMIT ?4",
        )
        .and_then(|mut select| {
            select
                .query_map((plan.id.as_str(), plan.version, held, MOST_NAMED), |row| {
                    row.get::<_, String>(0).map(CustomerId::new)
                })?
                .collect()
        })
        .during("list a plan's customers")
}
