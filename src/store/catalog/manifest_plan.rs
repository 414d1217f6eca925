//! Making a plan what a file says of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::entitlements::{
    checked_entitlement_in, make_version_in, put_entitlement_in, remove_entitlement_in,
};
use super::manifest_export::{held_in, listed};
use super::manifest_outcome::ManifestError;
use super::plan_rows::{known_plan, plan_in};
use super::plans::put_plan_in;
use super::publications::note_publication_in;
use super::publish::{
    IfArchived, IfHeld, Publishing, archive_in, discard_in, free_held_in, publish_in,
};
use crate::domain::change_set::ChangeSet;
use crate::domain::manifest::{PlanEntry, TermsEntry};
use crate::domain::plan::{Audience, Plan, PlanEntitlement, PlanStatus};
use crate::domain::{FeatureId, PlanId};
use crate::store::engine::sql::Connection;
use crate::store::{During, StoreError};

/// The entitlements of a table of the file.
type Grants = BTreeMap<FeatureId, TermsEntry>;

pub(crate) fn apply_plan(
    connection: &Connection,
    id: &PlanId,
    entry: &PlanEntry,
    audience: Option<Audience>,
    now: Timestamp,
) -> Result<(), ManifestError> {
    let held = plan_in(connection, id)?;
    let same = |held: &Plan| {
        held.name == entry.name && (entry.product.is_none() || held.product_id == entry.product)
    };
    if !held.as_ref().is_some_and(same) {
        put_plan_in(connection, id, &entry.name, entry.product.clone(), now)?;
    }
    let plan = known_plan(connection, id)?;
    if entry.status == PlanStatus::Draft && plan.version.is_some() {
        return Err(ManifestError::Published(id.clone()));
    }
    if entry.status == PlanStatus::Draft && entry.draft.is_some() {
        return Err(ManifestError::DraftOfDraft(id.clone()));
    }
    let granted = entry.entitlements.as_ref();
    let granted = granted.map(|it| checked(connection, "entitlements", it)).transpose()?;
    let draft = entry.draft.as_ref();
    let draft = draft.map(|it| checked(connection, "draft", it)).transpose()?;

    let archived = match entry.status {
        PlanStatus::Archived => IfArchived::Keep,
        PlanStatus::Draft | PlanStatus::Published => IfArchived::Reopen,
    };
    // To whom a change goes who is held to an older version: unless it is said, the change alone does.
    let how = Publishing { archived, ..Publishing::from(audience) };
    if plan.version.is_some() {
        republish(connection, &plan, granted, draft.is_some(), how, now)?;
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

/// Publishes what is granted where it differs. The draft is nobody's yet, and a set of changes: it is one of what is
/// published then, unless the file says itself what the draft is.
fn republish(
    connection: &Connection,
    plan: &Plan,
    granted: Option<Grants>,
    draft_said: bool,
    how: Publishing,
    now: Timestamp,
) -> Result<(), ManifestError> {
    let published = listed(&plan.entitlements);
    let granted = granted.unwrap_or_else(|| published.clone());
    let reopens = plan.status == PlanStatus::Archived && how.archived == IfArchived::Reopen;
    if granted == published && !reopens {
        if how.to == Audience::All && how.held == IfHeld::Free {
            free_held_in(connection, &plan.id, now)?;
        }
        return Ok(());
    }
    let changes = ChangeSet::between(&published, &granted);
    let drafted = plan.draft.as_ref().map(|draft| listed(&draft.entitlements));
    let drafted = drafted.map(|draft| ChangeSet::between(&published, &draft));
    if let Some(drafted) = drafted.as_ref().filter(|_| !draft_said) {
        let features = drafted.contradicts(&changes);
        if !features.is_empty() {
            return Err(ManifestError::DraftContradicts { plan: plan.id.clone(), features });
        }
    }
    discard_in(connection, &plan.id, now)?;
    if how.held == IfHeld::Keep && how.to == Audience::All {
        change_held(connection, &plan.id, &changes, &granted, now)?;
    }
    if granted != published {
        make_version_in(connection, &plan.id, granted.iter().map(|(id, terms)| (id, &terms.0)))?;
    }
    publish_in(connection, &plan.id, how, now)?;
    if let Some(drafted) = drafted {
        become_in(connection, &plan.id, &drafted.applied_to(&granted), now)?;
    }
    Ok(())
}

/// Makes the changes of a file for those who are held to older versions too; what they were promised otherwise stays.
/// A version never changes, so they come to one of their own, or to the published one if it is that.
fn change_held(
    connection: &Connection,
    id: &PlanId,
    changes: &ChangeSet<TermsEntry>,
    granted: &Grants,
    now: Timestamp,
) -> Result<(), StoreError> {
    for (version, held) in held_in(connection, id)? {
        let changed = changes.applied_to(&held.entitlements);
        let to = if changed == held.entitlements {
            continue;
        } else if changed == *granted {
            None
        } else {
            let grants = changed.iter().map(|(id, terms)| (id, &terms.0));
            let made = make_version_in(connection, id, grants)?;
            note_publication_in(connection, id, made, now)?;
            Some(made)
        };
        connection
            .prepare_cached(
                "UPDATE subscriptions SET plan_version = ?3 WHERE plan_id = ?1 AND plan_version = ?2
                   AND ended_at_ms IS NULL",
            )
            .and_then(|mut update| update.post((id.as_str(), version, to)))
            .during("change what customers are held to")?;
    }
    Ok(())
}

/// Returns the entitlements of a table of the file as they are kept.
fn checked(connection: &Connection, table: &str, grants: &Grants) -> Result<Grants, ManifestError> {
    let check = |(feature_id, TermsEntry(terms)): (&FeatureId, &TermsEntry)| {
        let entitlement = PlanEntitlement { feature_id: feature_id.clone(), terms: terms.clone() };
        match checked_entitlement_in(connection, &entitlement) {
            Ok(PlanEntitlement { feature_id, terms }) => Ok((feature_id, TermsEntry(terms))),
            Err(error) => Err(ManifestError::at(error, &[table, feature_id.as_str()])),
        }
    };
    grants.iter().map(check).collect()
}

/// Makes a plan's newest version grant just this.
fn become_in(
    connection: &Connection,
    id: &PlanId,
    wanted: &Grants,
    now: Timestamp,
) -> Result<(), ManifestError> {
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
