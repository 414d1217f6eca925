//! Plans and what they grant.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::convert::millis;
use super::events::append_event_in;
use super::page::Page;
use super::{During, Store, StoreError};
use crate::domain::plan::{Bill, EntitlementTerms, Plan, PlanEntitlement, Word};
use crate::domain::{FeatureId, PlanId, ProductId, Quantity};

/// Why a plan could not be changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such plan.
    #[error("there is no plan {0}")]
    UnknownPlan(PlanId),
    /// There is no such feature.
    #[error("there is no feature {0}")]
    UnknownFeature(FeatureId),
    /// There is no such product.
    #[error("there is no product {0}")]
    UnknownProduct(ProductId),
    /// AWS sells the plan: its name is ours, but whose it is and what it costs is not.
    #[error("plan {0} is sold by AWS and belongs to its product")]
    SoldByAws(PlanId),
    /// Nothing is included, so nothing is beyond it.
    #[error(
        "bill \"overage\" bills what is beyond the limit: give a limit, or \"unlimited\": true"
    )]
    OverageWithoutLimit,
    /// Nothing of the feature is counted.
    #[error("bill \"overage\" needs a metered feature, and {0} is not one")]
    OverageOfUnmetered(FeatureId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Plans, in the order of their ids.
    pub async fn plans(&self, page: Page) -> Result<Vec<Plan>, StoreError> {
        self.read(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached("SELECT id FROM plans WHERE id > ?1 ORDER BY id LIMIT ?2")
                .and_then(|mut select| {
                    let after = page.after.unwrap_or_default();
                    select.query_map((after, page.limit), |row| row.get(0))?.collect()
                })
                .during("list plans")?;
            let mut plans = Vec::with_capacity(ids.len());
            for id in ids {
                plans.extend(plan_in(connection, &PlanId::new(id))?);
            }
            Ok(plans)
        })
        .await
    }

    /// One plan.
    pub async fn plan(&self, id: PlanId) -> Result<Option<Plan>, StoreError> {
        self.read(move |connection| plan_in(connection, &id)).await
    }

    /// Makes a plan that AWS does not sell, or renames one.
    pub async fn put_plan(
        &self,
        id: PlanId,
        name: String,
        product_id: Option<ProductId>,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        self.write(move |connection| {
            let held = plan_in(connection, &id)?;
            if held.as_ref().is_some_and(|held| {
                held.source == "aws" && product_id.is_some() && held.product_id != product_id
            }) {
                return Err(PlanError::SoldByAws(id));
            }
            if let Some(product) = &product_id
                && !exists(connection, "SELECT 1 FROM products WHERE id = ?1", product.as_str())?
            {
                return Err(PlanError::UnknownProduct(product.clone()));
            }
            let product_id = product_id.or_else(|| held.and_then(|held| held.product_id));
            write_plan_in(connection, &id, &name, product_id.as_ref(), "direct", now)?;
            connection
                .prepare_cached("UPDATE plans SET name = ?2, updated_at_ms = ?3 WHERE id = ?1")
                .and_then(|mut update| update.execute((id.as_str(), &name, millis(now))))
                .during("rename a plan")?;
            changed_plan(connection, &id, now)
        })
        .await
    }

    /// Grants a feature.
    pub async fn put_entitlement(
        &self,
        plan_id: PlanId,
        feature_id: FeatureId,
        terms: EntitlementTerms,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        self.write(move |connection| {
            if !exists(connection, "SELECT 1 FROM plans WHERE id = ?1", plan_id.as_str())? {
                return Err(PlanError::UnknownPlan(plan_id));
            }
            if !exists(connection, "SELECT 1 FROM features WHERE id = ?1", feature_id.as_str())? {
                return Err(PlanError::UnknownFeature(feature_id));
            }
            check_overage(connection, &feature_id, &terms)?;
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO plan_entitlements
                         (plan_id, feature_id, quota, unlimited, soft, per_unit, reset, anchor, bill)
                     VALUES (:plan, :feature, :quota, :unlimited, :soft, :per_unit, :reset, :anchor, :bill)",
                )
                .and_then(|mut upsert| {
                    upsert.execute(named_params! {
                        ":plan": plan_id.as_str(), ":feature": feature_id.as_str(),
                        ":quota": terms.limit.map(Quantity::millionths),
                        ":unlimited": terms.unlimited, ":soft": terms.soft,
                        ":per_unit": terms.per_unit, ":reset": terms.reset.map(|it| it.word()),
                        ":anchor": terms.anchor.word(), ":bill": terms.bill.word(),
                    })
                })
                .during("grant a feature")?;
            changed_plan(connection, &plan_id, now)
        })
        .await
    }

    /// Publishes or archives a plan.
    pub async fn set_plan_status(
        &self,
        id: PlanId,
        status: &'static str,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        self.write(move |connection| {
            connection
                .prepare_cached("UPDATE plans SET status = ?2, updated_at_ms = ?3 WHERE id = ?1")
                .and_then(|mut update| update.execute((id.as_str(), status, millis(now))))
                .during("change a plan's status")?;
            changed_plan(connection, &id, now)
        })
        .await
    }
}

fn changed_plan(connection: &Connection, id: &PlanId, now: Timestamp) -> Result<Plan, PlanError> {
    let plan = plan_in(connection, id)?.ok_or_else(|| PlanError::UnknownPlan(id.clone()))?;
    append_event_in(connection, "plan.updated", None, &plan, now)?;
    Ok(plan)
}

fn exists(connection: &Connection, statement: &str, id: &str) -> Result<bool, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.exists([id]))
        .during("look up an id")
}

/// Makes a plan unless there is one.
pub(super) fn write_plan_in(
    connection: &Connection,
    id: &PlanId,
    name: &str,
    product_id: Option<&ProductId>,
    source: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO plans (id, name, product_id, source, status, created_at_ms, updated_at_ms)
             VALUES (:id, :name, :product, :source, 'draft', :now, :now)
             ON CONFLICT DO UPDATE SET product_id = ifnull(:product, product_id),
                 source = CASE WHEN :source = 'aws' THEN 'aws' ELSE source END, updated_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": id.as_str(), ":name": name, ":product": product_id.map(ProductId::as_str),
                ":source": source, ":now": millis(now),
            })
        })
        .during("write a plan")?;
    Ok(())
}

fn check_overage(
    connection: &Connection,
    feature: &FeatureId,
    terms: &EntitlementTerms,
) -> Result<(), PlanError> {
    if terms.bill != Bill::Overage {
        return Ok(());
    }
    if terms.limit.is_none() && !terms.unlimited {
        return Err(PlanError::OverageWithoutLimit);
    }
    let metered = "SELECT 1 FROM features WHERE id = ?1 AND type = 'metered'";
    if !exists(connection, metered, feature.as_str())? {
        return Err(PlanError::OverageOfUnmetered(feature.clone()));
    }
    Ok(())
}

pub(super) fn plan_in(connection: &Connection, id: &PlanId) -> Result<Option<Plan>, StoreError> {
    let found = connection
        .prepare_cached("SELECT name, product_id, source, status FROM plans WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    Ok(Plan {
                        id: id.clone(),
                        name: row.get(0)?,
                        product_id: row.get::<_, Option<String>>(1)?.map(ProductId::new),
                        source: row.get(2)?,
                        status: row.get(3)?,
                        pricing: "custom",
                        entitlements: Vec::new(),
                    })
                })
                .optional()
        })
        .during("read a plan")?;
    let Some(mut plan) = found else {
        return Ok(None);
    };
    plan.entitlements = connection
        .prepare_cached("SELECT * FROM plan_entitlements WHERE plan_id = ?1 ORDER BY feature_id")
        .and_then(|mut select| select.query_map([id.as_str()], entitlement_row)?.collect())
        .during("read a plan's entitlements")?;
    Ok(Some(plan))
}

pub(super) fn entitlement_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<PlanEntitlement> {
    let reset: Option<String> = row.get("reset")?;
    let anchor: String = row.get("anchor")?;
    let bill: String = row.get("bill")?;
    Ok(PlanEntitlement {
        feature_id: FeatureId::new(row.get::<_, String>("feature_id")?),
        terms: EntitlementTerms {
            limit: row.get::<_, Option<i64>>("quota")?.and_then(Quantity::from_millionths),
            unlimited: row.get("unlimited")?,
            soft: row.get("soft")?,
            per_unit: row.get("per_unit")?,
            reset: reset.as_deref().and_then(Word::from_word),
            anchor: Word::from_word(&anchor).unwrap_or_default(),
            bill: Word::from_word(&bill).unwrap_or_default(),
        },
    })
}
