//! Plans and what they grant.

use jiff::Timestamp;

use super::plan_rows::{PlanError, changed_plan, exists, plan_in};
use crate::domain::event::EventType;
use crate::domain::plan::{Plan, PlanStatus};
use crate::domain::word::Word;
use crate::domain::{PlanId, ProductId, Source};
use crate::store::base::columns::millis;
use crate::store::base::page::Page;
use crate::store::engine::sql::{Connection, named_params};
use crate::store::{During, Store, StoreError};

/// The filter of a list of plans.
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
                       AND (CAST(:status AS TEXT) IS NULL OR status = :status)
                       AND (CAST(:product AS TEXT) IS NULL OR product_id = :product
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

    /// Returns one plan.
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
pub(crate) fn put_plan_in(
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
        id.check_new()?;
        write_plan_in(connection, id, name, product_id.as_ref(), now)?;
    }
    connection
        .prepare_cached("UPDATE plans SET name = ?2, product_id = ?3 WHERE id = ?1")
        .and_then(|mut update| {
            let product = product_id.as_ref().map(ProductId::as_str);
            update.execute((id.as_str(), name, product))
        })
        .during("rename a plan")?;
    changed_plan(connection, id, EventType::PlanUpdated, now)
}

/// Makes a plan unless there is one. It belongs to the first product that it was mapped in.
pub(crate) fn write_plan_in(
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
             ON CONFLICT (id) DO UPDATE SET product_id = coalesce(plans.product_id, :product), updated_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":id": id.as_str(), ":name": name, ":product": product_id.map(ProductId::as_str),
                ":now": millis(now),
            })
        })
        .during("write a plan")?;
    Ok(())
}

/// Updates which plans AWS sells, after a mapping has changed: it does while a dimension means the plan, or
/// while those who pay as they go have it.
pub(crate) fn update_plan_sources_in(
    connection: &Connection,
    now: Timestamp,
) -> Result<(), PlanError> {
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
        changed_plan(connection, &PlanId::new(id), EventType::PlanUpdated, now)?;
    }
    Ok(())
}
