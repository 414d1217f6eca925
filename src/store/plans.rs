//! Plans and what they grant.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::convert::{millis, optional_timestamp};
use super::events::append_event_in;
use super::page::Page;
use super::plan_entitlements::entitlements_in;
use super::{During, Store, StoreError};
use crate::domain::plan::{Plan, PlanDraft, PlanStatus, SoldAs, Word};
use crate::domain::{
    DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, Source, TermsFault,
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
    /// The terms make no sense for the feature.
    #[error(transparent)]
    Terms(#[from] TermsFault),
    /// Nobody can be subscribed to it anew, and publishing would change that.
    #[error(
        "plan {0} is archived: publish it with \"reopen\": true to sell it again, or with \"to\": \"all\" to give those who have it the new version and keep it archived"
    )]
    Archived(PlanId),
    /// Somebody has or had it, or something means it.
    #[error("plan {id} is not removed: {reason}; archive it")]
    InUse {
        /// The plan.
        id: PlanId,
        /// What refers to it.
        reason: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which plans to list.
#[derive(Clone, Debug, Default)]
pub struct PlanFilter {
    /// In this status.
    pub status: Option<PlanStatus>,
    /// Of this product, as the product shows them.
    pub product_id: Option<ProductId>,
}

impl Store {
    /// Plans, in the order of their ids.
    pub async fn plans(&self, filter: PlanFilter, page: Page) -> Result<Vec<Plan>, StoreError> {
        self.read(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached(
                    "SELECT id FROM plans p WHERE id > :after
                       AND (:status IS NULL OR status = :status)
                       AND (:product IS NULL OR product_id = :product
                         OR EXISTS (SELECT 1 FROM dimensions WHERE product_id = :product AND plan_id = p.id)
                         OR EXISTS (SELECT 1 FROM products WHERE id = :product AND usage_plan_id = p.id))
                     ORDER BY id LIMIT :limit",
                )
                .and_then(|mut select| {
                    let parameters = named_params! {
                        ":after": page.after.unwrap_or_default(), ":limit": page.limit,
                        ":status": filter.status.map(|status| status.word()),
                        ":product": filter.product_id.as_ref().map(ProductId::as_str),
                    };
                    select.query_map(parameters, |row| row.get(0))?.collect()
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
        let put = move |connection: &Connection| {
            put_plan_in(connection, &id, &name, product_id.clone(), now)
        };
        self.write(put).await
    }
}

/// Makes a plan that AWS does not sell, or renames one.
pub(super) fn put_plan_in(
    connection: &Connection,
    id: &PlanId,
    name: &str,
    product_id: Option<ProductId>,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let held = plan_in(connection, id)?;
    if held.as_ref().is_some_and(|held| {
        held.source == Source::Aws && product_id.is_some() && held.product_id != product_id
    }) {
        return Err(PlanError::SoldByAws(id.clone()));
    }
    if let Some(product) = &product_id
        && !exists(connection, "SELECT 1 FROM products WHERE id = ?1", product.as_str())?
    {
        return Err(PlanError::UnknownProduct(product.clone()));
    }
    let product_id = product_id.or_else(|| held.as_ref()?.product_id.clone());
    if held.is_none() {
        write_plan_in(connection, id, name, product_id.as_ref(), now)?;
    }
    connection
        .prepare_cached("UPDATE plans SET name = ?2, product_id = ?3 WHERE id = ?1")
        .and_then(|mut update| {
            let product = product_id.as_ref().map(ProductId::as_str);
            update.execute((id.as_str(), name, product))
        })
        .during("rename a plan")?;
    changed_plan(connection, id, "plan.updated", now)
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

pub(super) fn exists(
    connection: &Connection,
    statement: &str,
    id: &str,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.exists([id]))
        .during("look up an id")
}

/// Makes a plan unless there is one. It belongs to the first product that it was mapped in.
pub(super) fn write_plan_in(
    connection: &Connection,
    id: &PlanId,
    name: &str,
    product_id: Option<&ProductId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO plans (id, name, product_id, source, status, created_at_ms, updated_at_ms)
             VALUES (:id, :name, :product, 'direct', 'draft', :now, :now)
             ON CONFLICT DO UPDATE SET product_id = ifnull(product_id, :product), updated_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": id.as_str(), ":name": name, ":product": product_id.map(ProductId::as_str),
                ":now": millis(now),
            })
        })
        .during("write a plan")?;
    Ok(())
}

/// Says of each plan whether AWS sells it, after a mapping has changed: it does while a dimension means the plan, or
/// while those who pay as they go have it.
pub(super) fn settle_sources_in(connection: &Connection, now: Timestamp) -> Result<(), PlanError> {
    let turned: Vec<(String, String)> = connection
        .prepare_cached(
            "UPDATE plans SET source = CASE source WHEN 'aws' THEN 'direct' ELSE 'aws' END
             WHERE (source = 'aws') <> (EXISTS (SELECT 1 FROM dimensions WHERE plan_id = plans.id)
                 OR EXISTS (SELECT 1 FROM products WHERE usage_plan_id = plans.id))
             RETURNING id, source",
        )
        .and_then(|mut update| {
            update.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .during("say who sells which plan")?;
    // Of those that AWS sells from now on, the import tells.
    for (id, _) in turned.into_iter().filter(|(_, source)| source == Source::Direct.as_str()) {
        changed_plan(connection, &PlanId::new(id), "plan.updated", now)?;
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
