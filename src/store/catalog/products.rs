//! Products: listings that were imported, and how their dimensions are mapped.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::brakes::held_of;
use super::plan_rows::plan_in;
use crate::domain::product::{Dimension, Product};
use crate::domain::{AccountId, ClockHour, DimensionKey, EntityId, PlanId, ProductCode, ProductId};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::base::page::Page;
use crate::store::engine::sql::{Connection, OptionalExtension, named_params};
use crate::store::{During, Store, StoreError};

/// A listing as the catalog describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The catalog's id.
    pub entity_id: EntityId,
    /// The product code; drafts may lack one.
    pub product_code: Option<ProductCode>,
    /// The account that sells it, where the catalog tells.
    pub owner: Option<AccountId>,
    /// The title.
    pub title: String,
    /// Draft, Limited, Public or Restricted.
    pub visibility: String,
    /// The dimensions, unmapped.
    pub dimensions: Vec<Dimension>,
    /// The faults of the listing's document.
    pub problems: Vec<String>,
    /// The document as it came.
    pub document: Value,
}

impl Store {
    /// Products, in the order of their ids.
    pub async fn products(&self, page: Page) -> Result<Vec<Product>, StoreError> {
        self.read(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached("SELECT id FROM products WHERE id > ?1 ORDER BY id LIMIT ?2")
                .and_then(|mut select| {
                    let after = page.after.unwrap_or_default();
                    select.query_map((after, page.limit), |row| row.get(0))?.collect()
                })
                .during("list products")?;
            let mut products = Vec::with_capacity(ids.len());
            for id in ids {
                products.extend(product_in(connection, &ProductId::new(id))?);
            }
            Ok(products)
        })
        .await
    }

    /// Returns one product.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError> {
        self.read(move |connection| product_in(connection, &id)).await
    }

    /// Returns the product that a listing was imported as.
    pub async fn product_of_entity(&self, id: EntityId) -> Result<Option<Product>, StoreError> {
        self.read(move |connection| product_of_entity(connection, &id)).await
    }

    /// Returns the product with this code.
    pub async fn product_of_code(&self, code: ProductCode) -> Result<Option<Product>, StoreError> {
        self.read(move |connection| {
            let id = find(connection, "SELECT id FROM products WHERE code = ?1", code.as_str())?;
            id.map_or(Ok(None), |id| product_in(connection, &id))
        })
        .await
    }
}

pub(crate) fn write_dimensions(
    connection: &Connection,
    product: &ProductId,
    dimensions: &[Dimension],
    now: Timestamp,
) -> Result<(), StoreError> {
    for dimension in dimensions {
        let types = serde_json::to_string(&dimension.types).unwrap_or_else(|_| "[]".into());
        connection
            .prepare_cached(
                "INSERT INTO dimensions (product_id, key, name, unit, entitled, metered, types)
                 VALUES (:product, :key, :name, :unit, :entitled, :metered, :types)
                 ON CONFLICT (product_id, key) DO UPDATE SET name = :name, unit = :unit, entitled = :entitled,
                     metered = :metered, types = :types, removed_at_ms = NULL",
            )
            .and_then(|mut upsert| {
                upsert.post(named_params! {
                    ":product": product.as_str(), ":key": dimension.key.as_str(),
                    ":name": dimension.name, ":unit": dimension.unit,
                    ":entitled": dimension.is_entitled(), ":metered": dimension.is_metered(),
                    ":types": types,
                })
            })
            .during("write a dimension")?;
    }
    let kept: BTreeSet<&str> = dimensions.iter().map(|it| it.key.as_str()).collect();
    for held in dimensions_in(connection, product)? {
        if !kept.contains(held.key.as_str()) && held.removed_at.is_none() {
            connection
                .prepare_cached(
                    "UPDATE dimensions SET removed_at_ms = ?3 WHERE product_id = ?1 AND key = ?2",
                )
                .and_then(|mut update| {
                    update.post((product.as_str(), held.key.as_str(), millis(now)))
                })
                .during("mark a dimension as gone")?;
        }
    }
    Ok(())
}

pub(crate) fn find(
    connection: &Connection,
    statement: &str,
    key: &str,
) -> Result<Option<ProductId>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_row([key], |row| row.get::<_, String>(0)).optional())
        .map(|found| found.map(ProductId::new))
        .during("find a product")
}

pub(crate) fn product_of_entity(
    connection: &Connection,
    entity_id: &EntityId,
) -> Result<Option<Product>, StoreError> {
    let id = find(connection, "SELECT id FROM products WHERE entity_id = ?1", entity_id.as_str())?;
    id.map_or(Ok(None), |id| product_in(connection, &id))
}

pub(crate) fn product_in(
    connection: &Connection,
    id: &ProductId,
) -> Result<Option<Product>, StoreError> {
    let found = connection
        .prepare_cached("SELECT * FROM products WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    Ok(Product {
                        id: id.clone(),
                        entity_id: EntityId::new(row.get::<_, String>("entity_id")?),
                        product_code: ProductCode::new(row.get::<_, String>("code")?),
                        title: row.get("title")?,
                        visibility: row.get("visibility")?,
                        usage_plan_id: row
                            .get::<_, Option<String>>("usage_plan_id")?
                            .map(PlanId::new),
                        licensed_from: row
                            .get::<_, Option<i64>>("licensed_from_hour")?
                            .map(ClockHour::from_number),
                        dimensions: Vec::new(),
                        plans: Vec::new(),
                        imported_at: timestamp(row.get("imported_at_ms")?),
                        synced_at: timestamp(row.get("synced_at_ms")?),
                        held_endings: Vec::new(),
                    })
                })
                .optional()
        })
        .during("read a product")?;
    let Some(mut product) = found else {
        return Ok(None);
    };
    product.dimensions = dimensions_in(connection, id)?;
    product.held_endings = held_of(connection, id)?;
    let plans: Vec<String> = connection
        .prepare_cached(
            "SELECT id FROM plans WHERE product_id = ?1
             UNION SELECT plan_id FROM dimensions WHERE product_id = ?1 AND plan_id IS NOT NULL
             UNION SELECT usage_plan_id FROM products WHERE id = ?1 AND usage_plan_id IS NOT NULL
             ORDER BY 1",
        )
        .and_then(|mut select| select.query_map([id.as_str()], |row| row.get(0))?.collect())
        .during("read a product's plans")?;
    for plan in plans {
        product.plans.extend(plan_in(connection, &PlanId::new(plan))?);
    }
    Ok(Some(product))
}

fn dimensions_in(connection: &Connection, id: &ProductId) -> Result<Vec<Dimension>, StoreError> {
    connection
        .prepare_cached(
            "SELECT key, name, unit, types, plan_id, removed_at_ms FROM dimensions
             WHERE product_id = ?1 ORDER BY key",
        )
        .and_then(|mut select| {
            select
                .query_map([id.as_str()], |row| {
                    let types: String = row.get(3)?;
                    Ok(Dimension {
                        key: DimensionKey::new(row.get::<_, String>(0)?),
                        name: row.get(1)?,
                        unit: row.get(2)?,
                        types: serde_json::from_str(&types).unwrap_or_default(),
                        plan_id: row.get::<_, Option<String>>(4)?.map(PlanId::new),
                        removed_at: optional_timestamp(row.get(5)?),
                    })
                })?
                .collect()
        })
        .during("read a product's dimensions")
}
