//! Making a plan what a file says of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Connection;

use super::exporting::listed;
use super::plan_entitlements::{put_entitlement_in, remove_entitlement_in, settled_in};
use super::plans::{known_plan, plan_in, put_plan_in};
use super::publishing::{archive_in, discard_in, publish_in};
use super::{CatalogueError, IfArchived, Publishing};
use crate::domain::catalogue::{PlanEntry, TermsEntry};
use crate::domain::plan::{Audience, Plan, PlanEntitlement, PlanStatus};
use crate::domain::{FeatureId, PlanId};

/// What a table of the file grants.
type Grants = BTreeMap<FeatureId, TermsEntry>;

pub(super) fn apply_plan(
    connection: &Connection,
    id: &PlanId,
    entry: &PlanEntry,
    audience: Audience,
    now: Timestamp,
) -> Result<(), CatalogueError> {
    let held = plan_in(connection, id)?;
    let same = |held: &Plan| {
        held.name == entry.name && (entry.product.is_none() || held.product_id == entry.product)
    };
    if !held.as_ref().is_some_and(same) {
        put_plan_in(connection, id, &entry.name, entry.product.clone(), now)?;
    }
    let plan = known_plan(connection, id)?;
    if entry.status == PlanStatus::Draft && plan.version.is_some() {
        return Err(CatalogueError::Published(id.clone()));
    }
    if entry.status == PlanStatus::Draft && entry.draft.is_some() {
        return Err(CatalogueError::DraftOfDraft(id.clone()));
    }
    let granted = entry.entitlements.as_ref();
    let granted = granted.map(|it| settled(connection, "entitlements", it)).transpose()?;
    let draft = entry.draft.as_ref();
    let draft = draft.map(|it| settled(connection, "draft", it)).transpose()?;

    let archived = match entry.status {
        PlanStatus::Archived => IfArchived::Keep,
        PlanStatus::Draft | PlanStatus::Published => IfArchived::Reopen,
    };
    let how = Publishing { to: audience, archived };
    if plan.version.is_some() {
        republish(connection, &plan, granted, how, now)?;
    } else {
        if let Some(granted) = &granted {
            become_in(connection, id, granted, now)?;
        }
        // Whoever comes to have an archived plan has what the file says that it grants.
        let for_holders = plan.status != PlanStatus::Archived && granted.is_some();
        match entry.status {
            PlanStatus::Archived if !for_holders => {}
            PlanStatus::Draft => {}
            PlanStatus::Archived | PlanStatus::Published => {
                publish_in(connection, id, how, now)?;
            }
        }
    }
    if entry.status == PlanStatus::Archived {
        archive_in(connection, id, now)?;
    }
    if let Some(draft) = &draft {
        become_in(connection, id, draft, now)?;
    }
    Ok(())
}

/// Publishes what is granted where it differs, around the draft, which is nobody's yet.
fn republish(
    connection: &Connection,
    plan: &Plan,
    granted: Option<Grants>,
    how: Publishing,
    now: Timestamp,
) -> Result<(), CatalogueError> {
    let published = listed(&plan.entitlements);
    let granted = granted.unwrap_or_else(|| published.clone());
    let reopens = plan.status == PlanStatus::Archived && how.archived == IfArchived::Reopen;
    if granted == published && !reopens {
        return Ok(());
    }
    discard_in(connection, &plan.id, now)?;
    become_in(connection, &plan.id, &granted, now)?;
    publish_in(connection, &plan.id, how, now)?;
    if let Some(draft) = &plan.draft {
        become_in(connection, &plan.id, &listed(&draft.entitlements), now)?;
    }
    Ok(())
}

/// What a table of the file grants, as it is kept.
fn settled(
    connection: &Connection,
    table: &str,
    grants: &Grants,
) -> Result<Grants, CatalogueError> {
    let settle = |(feature_id, TermsEntry(terms)): (&FeatureId, &TermsEntry)| {
        let entitlement = PlanEntitlement { feature_id: feature_id.clone(), terms: terms.clone() };
        match settled_in(connection, &entitlement) {
            Ok(PlanEntitlement { feature_id, terms }) => Ok((feature_id, TermsEntry(terms))),
            Err(error) => Err(CatalogueError::at(error, &[table, feature_id.as_str()])),
        }
    };
    grants.iter().map(settle).collect()
}

/// Makes a plan's newest version grant just this.
fn become_in(
    connection: &Connection,
    id: &PlanId,
    wanted: &Grants,
    now: Timestamp,
) -> Result<(), CatalogueError> {
    for (feature_id, TermsEntry(terms)) in wanted {
        let entitlement = PlanEntitlement { feature_id: feature_id.clone(), terms: terms.clone() };
        put_entitlement_in(connection, id, &entitlement, now)?;
    }
    for held in known_plan(connection, id)?.newest() {
        if !wanted.contains_key(&held.feature_id) {
            remove_entitlement_in(connection, id, &held.feature_id, now)?;
        }
    }
    Ok(())
}
