//! Plans and what they grant.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::convert::{millis, optional_timestamp};
use super::events::append_event_in;
use super::page::Page;
use super::{During, Store, StoreError};
use crate::domain::plan::{
    Bill, EntitlementTerms, Plan, PlanDraft, PlanEntitlement, PlanStatus, SoldAs, Word,
};
use crate::domain::{
    DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, Quantity, Source,
};

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
                held.source == Source::Aws && product_id.is_some() && held.product_id != product_id
            }) {
                return Err(PlanError::SoldByAws(id));
            }
            if let Some(product) = &product_id
                && !exists(connection, "SELECT 1 FROM products WHERE id = ?1", product.as_str())?
            {
                return Err(PlanError::UnknownProduct(product.clone()));
            }
            let product_id = product_id.or_else(|| held.as_ref()?.product_id.clone());
            if held.is_none() {
                write_plan_in(connection, &id, &name, product_id.as_ref(), Source::Direct, now)?;
            }
            connection
                .prepare_cached("UPDATE plans SET name = ?2, product_id = ?3 WHERE id = ?1")
                .and_then(|mut update| {
                    let product = product_id.as_ref().map(ProductId::as_str);
                    update.execute((id.as_str(), &name, product))
                })
                .during("rename a plan")?;
            changed_plan(connection, &id, "plan.updated", now)
        })
        .await
    }

    /// Grants a feature, in the plan's draft. One that grants it in these terms already stays as it is.
    pub async fn put_entitlement(
        &self,
        plan_id: PlanId,
        feature_id: FeatureId,
        terms: EntitlementTerms,
        now: Timestamp,
    ) -> Result<Plan, PlanError> {
        self.write(move |connection| {
            let plan = known_plan(connection, &plan_id)?;
            if !exists(connection, "SELECT 1 FROM features WHERE id = ?1", feature_id.as_str())? {
                return Err(PlanError::UnknownFeature(feature_id));
            }
            check_overage(connection, &feature_id, &terms)?;
            let newest = plan.newest();
            if newest.iter().any(|it| it.feature_id == feature_id && it.terms == terms) {
                return Ok(plan);
            }
            let version = draft_in(connection, &plan_id)?;
            write_entitlement_in(
                connection,
                &plan_id,
                version,
                &PlanEntitlement { feature_id, terms },
            )?;
            changed_plan(connection, &plan_id, "plan.updated", now)
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
        self.write(move |connection| {
            let plan = known_plan(connection, &plan_id)?;
            if !plan.newest().iter().any(|it| it.feature_id == feature_id) {
                return Ok(plan);
            }
            let version = draft_in(connection, &plan_id)?;
            connection
                .prepare_cached(
                    "DELETE FROM plan_entitlements WHERE plan_id = ?1 AND version = ?2 AND feature_id = ?3",
                )
                .and_then(|mut delete| {
                    delete.execute((plan_id.as_str(), version, feature_id.as_str()))
                })
                .during("take a feature out of a plan")?;
            changed_plan(connection, &plan_id, "plan.updated", now)
        })
        .await
    }
}

/// The plan's draft; a published plan gets one that starts as what is published.
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
        .and_then(|mut insert| insert.execute((id.as_str(), version)))
        .during(during)?;
    Ok(version + 1)
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
            "INSERT OR REPLACE INTO plan_entitlements
                 (plan_id, version, feature_id, quota, unlimited, soft, per_unit, reset, anchor, bill)
             VALUES (:plan, :version, :feature, :quota, :unlimited, :soft, :per_unit, :reset, :anchor, :bill)",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
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

pub(super) fn known_plan(connection: &Connection, id: &PlanId) -> Result<Plan, PlanError> {
    plan_in(connection, id)?.ok_or_else(|| PlanError::UnknownPlan(id.clone()))
}

/// The plan as it is after a change, which the outbox is told of.
pub(super) fn changed_plan(
    connection: &Connection,
    id: &PlanId,
    event: &'static str,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    connection
        .prepare_cached("UPDATE plans SET updated_at_ms = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((id.as_str(), millis(now))))
        .during("touch a plan")?;
    let plan = known_plan(connection, id)?;
    append_event_in(connection, event, None, &plan, now)?;
    Ok(plan)
}

fn exists(connection: &Connection, statement: &str, id: &str) -> Result<bool, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.exists([id]))
        .during("look up an id")
}

/// Makes a plan unless there is one. What a dimension is mapped to is sold by AWS from then on, and belongs to the
/// first product that it was mapped in.
pub(super) fn write_plan_in(
    connection: &Connection,
    id: &PlanId,
    name: &str,
    product_id: Option<&ProductId>,
    source: Source,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO plans (id, name, product_id, source, status, created_at_ms, updated_at_ms)
             VALUES (:id, :name, :product, :source, 'draft', :now, :now)
             ON CONFLICT DO UPDATE SET product_id = ifnull(product_id, :product),
                 source = CASE WHEN :source = 'aws' THEN 'aws' ELSE source END, updated_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": id.as_str(), ":name": name, ":product": product_id.map(ProductId::as_str),
                ":source": source.as_str(), ":now": millis(now),
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
        .prepare_cached("SELECT * FROM plans WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    let (source, status): (String, String) =
                        (row.get("source")?, row.get("status")?);
                    let plan = Plan {
                        id: id.clone(),
                        name: row.get("name")?,
                        product_id: row.get::<_, Option<String>>("product_id")?.map(ProductId::new),
                        source: if source == "aws" { Source::Aws } else { Source::Direct },
                        aws: Vec::new(),
                        // The schema admits only these words.
                        status: PlanStatus::from_word(&status).unwrap_or(PlanStatus::Draft),
                        version: row.get("published_version")?,
                        pricing: "custom",
                        entitlements: Vec::new(),
                        draft: None,
                    };
                    Ok((plan, row.get("version")?))
                })
                .optional()
        })
        .during("read a plan")?;
    let Some((mut plan, newest)) = found else {
        return Ok(None);
    };
    plan.aws = sold_as_in(connection, id)?;
    plan.entitlements = entitlements_in(connection, id, plan.version.unwrap_or(newest))?;
    if plan.version.is_some_and(|published| published != newest) {
        let entitlements = entitlements_in(connection, id, newest)?;
        plan.draft = Some(PlanDraft { version: newest, entitlements });
    }
    Ok(Some(plan))
}

fn sold_as_in(connection: &Connection, id: &PlanId) -> Result<Vec<SoldAs>, StoreError> {
    connection
        .prepare_cached(
            "SELECT p.entity_id, p.code, d.key, d.removed_at_ms FROM dimensions d
             JOIN products p ON p.id = d.product_id WHERE d.plan_id = ?1
             UNION ALL SELECT entity_id, code, NULL, NULL FROM products WHERE usage_plan_id = ?1
             ORDER BY 1, 3",
        )
        .and_then(|mut select| {
            select
                .query_map([id.as_str()], |row| {
                    Ok(SoldAs {
                        entity_id: EntityId::new(row.get::<_, String>(0)?),
                        product_code: ProductCode::new(row.get::<_, String>(1)?),
                        dimension: row.get::<_, Option<String>>(2)?.map(DimensionKey::new),
                        removed_at: optional_timestamp(row.get(3)?),
                    })
                })?
                .collect()
        })
        .during("read as what a plan is sold")
}

/// What a version of a plan grants.
pub(super) fn entitlements_in(
    connection: &Connection,
    id: &PlanId,
    version: i64,
) -> Result<Vec<PlanEntitlement>, StoreError> {
    connection
        .prepare_cached(
            "SELECT * FROM plan_entitlements WHERE plan_id = ?1 AND version = ?2 ORDER BY feature_id",
        )
        .and_then(|mut select| select.query_map((id.as_str(), version), entitlement_row)?.collect())
        .during("read a plan's entitlements")
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
