//! Entitlements of plans, version by version. Only a draft is ever changed.

use jiff::Timestamp;

use super::features::feature_in;
use super::plan_rows::{PlanError, changed_plan, known_plan};
use crate::domain::event::EventType;
use crate::domain::plan::{Plan, PlanEntitlement};
use crate::domain::terms::EntitlementTerms;
use crate::domain::word::Word;
use crate::domain::{FeatureId, PlanId, Quantity};
use crate::store::base::activity::say;
use crate::store::engine::sql::{Connection, named_params};
use crate::store::{During, Store, StoreError};

impl Store {
    /// Grants a feature, in the plan's draft. One that grants it in these terms already stays as it is.
    pub async fn put_entitlement(
        &self,
        plan_id: PlanId,
        feature_id: FeatureId,
        terms: EntitlementTerms,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        let entitlement = PlanEntitlement { feature_id, terms };
        self.write(move |connection| {
            say(&entitlement.terms);
            put_entitlement_in(connection, &plan_id, &entitlement, now)
        })
        .await
    }

    /// Grants a feature no more, from the plan's next version on.
    pub async fn remove_entitlement(
        &self,
        plan_id: PlanId,
        feature_id: FeatureId,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        self.write(move |connection| remove_entitlement_in(connection, &plan_id, &feature_id, now))
            .await
    }
}

/// Grants a feature, in the plan's draft. One that grants it in these terms already stays as it is.
pub(crate) fn put_entitlement_in(
    connection: &Connection,
    plan_id: &PlanId,
    entitlement: &PlanEntitlement,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let plan = known_plan(connection, plan_id)?;
    let entitlement = checked_entitlement_in(connection, entitlement)?;
    if plan.newest().contains(&entitlement) {
        return Ok(plan);
    }
    let version = draft_in(connection, plan_id)?;
    write_entitlement_in(connection, plan_id, version, &entitlement)?;
    changed_plan(connection, plan_id, EventType::PlanUpdated, now)
}

pub(crate) fn remove_entitlement_in(
    connection: &Connection,
    plan_id: &PlanId,
    feature_id: &FeatureId,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let plan = known_plan(connection, plan_id)?;
    if !plan.newest().iter().any(|it| it.feature_id == *feature_id) {
        return Ok(plan);
    }
    let version = draft_in(connection, plan_id)?;
    connection
        .prepare_cached(
            "DELETE FROM plan_entitlements WHERE plan_id = ?1 AND version = ?2 AND feature_id = ?3",
        )
        .and_then(|mut delete| delete.post((plan_id.as_str(), version, feature_id.as_str())))
        .during("take a feature out of a plan")?;
    changed_plan(connection, plan_id, EventType::PlanUpdated, now)
}

/// Opens the plan's draft; a published plan gets one that starts as what is published.
fn draft_in(connection: &Connection, id: &PlanId) -> Result<i64, StoreError> {
    let during = "open a plan's draft";
    let (version, published): (i64, Option<i64>) = connection
        .prepare_cached("SELECT version, published_version FROM plans WHERE id = ?1")
        .and_then(|mut select| {
            select.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .during(during)?;
    if published != Some(version) {
        return Ok(version);
    }
    connection
        .prepare_cached("UPDATE plans SET version = version + 1 WHERE id = ?1")
        .and_then(|mut update| update.execute([id.as_str()]))
        .during(during)?;
    connection
        .prepare_cached(
            "INSERT INTO plan_entitlements
                 (plan_id, version, feature_id, quota, unlimited, soft, per_unit, reset, anchor, bill)
             SELECT plan_id, version + 1, feature_id, quota, unlimited, soft, per_unit, reset, anchor, bill
             FROM plan_entitlements WHERE plan_id = ?1 AND version = ?2",
        )
        .and_then(|mut insert| insert.post((id.as_str(), version)))
        .during(during)?;
    Ok(version + 1)
}

/// Makes a plan's next version of these grants; nobody has it yet.
pub(crate) fn make_version_in<'a>(
    connection: &Connection,
    id: &PlanId,
    grants: impl IntoIterator<Item = (&'a FeatureId, &'a EntitlementTerms)>,
) -> Result<i64, StoreError> {
    let version = connection
        .prepare_cached("UPDATE plans SET version = version + 1 WHERE id = ?1 RETURNING version")
        .and_then(|mut update| update.query_row([id.as_str()], |row| row.get(0)))
        .during("make a plan's version")?;
    for (feature_id, terms) in grants {
        let entitlement = PlanEntitlement { feature_id: feature_id.clone(), terms: terms.clone() };
        write_entitlement_in(connection, id, version, &entitlement)?;
    }
    Ok(version)
}

fn write_entitlement_in(
    connection: &Connection,
    plan: &PlanId,
    version: i64,
    entitlement: &PlanEntitlement,
) -> Result<(), StoreError> {
    let terms = &entitlement.terms;
    connection
        .prepare_cached(
            "INSERT INTO plan_entitlements
                 (plan_id, version, feature_id, quota, unlimited, soft, per_unit, reset, anchor, bill)
             VALUES (:plan, :version, :feature, :quota, :unlimited, :soft, :per_unit, :reset, :anchor, :bill)
             ON CONFLICT (plan_id, version, feature_id) DO UPDATE SET quota = :quota, unlimited = :unlimited, soft = :soft,
                 per_unit = :per_unit, reset = :reset, anchor = :anchor, bill = :bill",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":plan": plan.as_str(), ":version": version,
                ":feature": entitlement.feature_id.as_str(),
                ":quota": terms.limit.map(Quantity::millionths),
                ":unlimited": terms.unlimited, ":soft": terms.soft,
                ":per_unit": terms.per_unit, ":reset": terms.reset.map(|it| it.word()),
                ":anchor": terms.anchor.word(), ":bill": terms.bill.word(),
            })
        })
        .during("grant a feature")?;
    Ok(())
}

/// Returns the entitlement as it is kept, if its terms make sense for its feature.
pub(crate) fn checked_entitlement_in(
    connection: &Connection,
    entitlement: &PlanEntitlement,
) -> Result<PlanEntitlement, PlanError> {
    let feature_id = entitlement.feature_id.clone();
    let Some(feature) = feature_in(connection, &feature_id)? else {
        return Err(PlanError::UnknownFeature(feature_id));
    };
    let terms = entitlement.terms.clone().checked_for(&feature_id, feature.kind)?;
    Ok(PlanEntitlement { feature_id, terms })
}
