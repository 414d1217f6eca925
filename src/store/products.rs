//! Products: listings that were imported, and how their dimensions are mapped.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use serde_json::Value;

use super::convert::{millis, optional_timestamp, timestamp};
use super::events::append_event_in;
use super::features::{feature_in, write_feature_in};
use super::page::Page;
use super::plans::{plan_in, write_plan_in};
use super::{During, Store, StoreError};
use crate::domain::plan::{Dimension, Feature, FeatureKind, Product, WhenStale};
use crate::domain::{
    ClockHour, DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, Source,
};

/// A listing as the catalog describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The catalog's id.
    pub entity_id: EntityId,
    /// The product code; drafts may lack one.
    pub product_code: Option<ProductCode>,
    /// The title.
    pub title: String,
    /// Draft, Limited, Public or Restricted.
    pub visibility: String,
    /// The dimensions, unmapped.
    pub dimensions: Vec<Dimension>,
    /// What the document lacks.
    pub problems: Vec<String>,
    /// The document as it came.
    pub document: Value,
}

/// How to import a listing.
#[derive(Clone, Debug)]
pub struct ImportProduct {
    /// Our id; the catalog's where none is chosen.
    pub product_id: Option<ProductId>,
    /// The listing.
    pub listing: Listing,
    /// Which plan each dimension means.
    pub plans: BTreeMap<DimensionKey, PlanId>,
    /// The plan of those who pay as they go.
    pub usage_plan: Option<PlanId>,
    /// Which feature each metered dimension bills; made where there is none.
    pub features: BTreeMap<DimensionKey, FeatureId>,
}

/// Why a listing could not be imported as asked.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The listing has no product code yet.
    #[error("{0} has no product code: AWS gives one when the listing leaves the draft state")]
    NoProductCode(EntityId),
    /// The mapping names what the listing does not have.
    #[error("the listing has no dimension {dimension}; it has {known}")]
    UnknownDimension {
        /// The dimension.
        dimension: DimensionKey,
        /// Those that it has.
        known: String,
    },
    /// The id is another listing's.
    #[error("product {0} is another listing")]
    IdTaken(ProductId),
    /// Another listing has the code, by which AWS's messages name products.
    #[error("product {held} has the product code {code} already")]
    CodeTaken {
        /// The product.
        held: ProductId,
        /// The code.
        code: ProductCode,
    },
    /// The plan has customers of the seller's own.
    #[error(
        "plan {0} has customers who bought it on your own site; map the dimension to a plan of its own"
    )]
    SoldDirectly(PlanId),
    /// Only usage is billed by a feature.
    #[error("dimension {0} is not metered: no feature's usage is billed by it")]
    NotMetered(DimensionKey),
    /// The feature is of another kind.
    #[error("feature {0} is not metered: it has no usage to bill")]
    FeatureNotMetered(FeatureId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What differs between a listing and what was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProductChanges {
    /// Dimensions that are new.
    pub added: Vec<Dimension>,
    /// Dimensions that are described otherwise.
    pub changed: Vec<Dimension>,
    /// Dimensions that are gone.
    pub removed: Vec<Dimension>,
}

impl Store {
    /// Imports a listing, or maps it anew.
    pub async fn import_product(
        &self,
        import: ImportProduct,
        now: Timestamp,
    ) -> Result<Product, ImportError> {
        let product = self.write(move |connection| import_in(connection, &import, now)).await?;
        self.release_product(product.product_code.clone(), now).await?;
        self.nudge_events();
        Ok(product)
    }

    /// Takes over what changed in a listing; none if it was never imported.
    pub async fn sync_product(
        &self,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Option<ProductChanges>, StoreError> {
        let changes = self
            .write(move |connection| {
                let Some(product) = product_of_entity(connection, &listing.entity_id)? else {
                    return Ok::<_, StoreError>(None);
                };
                let changes = compare(&product, &listing);
                write_dimensions(connection, &product.id, &listing.dimensions, now)?;
                connection
                    .prepare_cached(
                        "UPDATE products SET title = ?2, visibility = ?3, document = ?4, synced_at_ms = ?5
                         WHERE id = ?1",
                    )
                    .and_then(|mut update| {
                        update.execute((
                            product.id.as_str(),
                            &listing.title,
                            &listing.visibility,
                            listing.document.to_string(),
                            millis(now),
                        ))
                    })
                    .during("sync a product")?;
                if changes != ProductChanges::default() {
                    append_event_in(connection, "product.synced", None, &changes, now)?;
                }
                Ok(Some(changes))
            })
            .await?;
        self.nudge_events();
        Ok(changes)
    }

    /// The listings of products that were last compared with them before a moment.
    pub async fn entities_synced_before(
        &self,
        before: Timestamp,
    ) -> Result<Vec<EntityId>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT entity_id FROM products WHERE synced_at_ms <= ?1 ORDER BY id",
                )
                .and_then(|mut select| {
                    select
                        .query_map([millis(before)], |row| {
                            row.get::<_, String>(0).map(EntityId::new)
                        })?
                        .collect()
                })
                .during("find products to sync")
        })
        .await
    }

    /// Dimensions that are sold in contracts and mean no plan: whoever buys one has access to nothing.
    pub async fn unmapped_dimensions(&self) -> Result<Vec<(ProductId, DimensionKey)>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT product_id, key FROM dimensions
                     WHERE entitled = 1 AND plan_id IS NULL AND removed_at_ms IS NULL
                     ORDER BY product_id, key LIMIT 100",
                )
                .and_then(|mut select| {
                    select
                        .query_map([], |row| {
                            let product = ProductId::new(row.get::<_, String>(0)?);
                            Ok((product, DimensionKey::new(row.get::<_, String>(1)?)))
                        })?
                        .collect()
                })
                .during("find dimensions without a plan")
        })
        .await
    }

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

    /// One product.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError> {
        self.read(move |connection| product_in(connection, &id)).await
    }

    /// The product that a listing was imported as.
    pub async fn product_of_entity(&self, id: EntityId) -> Result<Option<Product>, StoreError> {
        self.read(move |connection| product_of_entity(connection, &id)).await
    }

    /// The product with this code.
    pub async fn product_of_code(&self, code: ProductCode) -> Result<Option<Product>, StoreError> {
        self.read(move |connection| {
            let id = find(connection, "SELECT id FROM products WHERE code = ?1", code.as_str())?;
            id.map_or(Ok(None), |id| product_in(connection, &id))
        })
        .await
    }
}

fn import_in(
    connection: &Connection,
    import: &ImportProduct,
    now: Timestamp,
) -> Result<Product, ImportError> {
    let listing = &import.listing;
    let code = listing
        .product_code
        .as_ref()
        .ok_or_else(|| ImportError::NoProductCode(listing.entity_id.clone()))?;
    let by_key: BTreeMap<&DimensionKey, &Dimension> =
        listing.dimensions.iter().map(|dimension| (&dimension.key, dimension)).collect();
    let mut named = import.plans.keys().chain(import.features.keys());
    if let Some(unknown) = named.find(|key| !by_key.contains_key(key)) {
        let known: Vec<&str> = by_key.keys().map(|key| key.as_str()).collect();
        return Err(ImportError::UnknownDimension {
            dimension: unknown.clone(),
            known: if known.is_empty() { "none".into() } else { known.join(", ") },
        });
    }
    let held = product_of_entity(connection, &listing.entity_id)?;
    let id = match &held {
        Some(held) => held.id.clone(),
        None => {
            import.product_id.clone().unwrap_or_else(|| ProductId::new(listing.entity_id.as_str()))
        }
    };
    if held.is_none() && product_in(connection, &id)?.is_some() {
        return Err(ImportError::IdTaken(id));
    }
    let of_code = find(connection, "SELECT id FROM products WHERE code = ?1", code.as_str())?;
    if let Some(held) = of_code.filter(|held| *held != id) {
        return Err(ImportError::CodeTaken { held, code: code.clone() });
    }
    for plan in import.plans.values().chain(&import.usage_plan) {
        refuse_sold_directly(connection, plan)?;
    }
    write_product(connection, &id, code, listing, now)?;
    write_dimensions(connection, &id, &listing.dimensions, now)?;
    for (key, feature) in &import.features {
        let dimension = by_key.get(key).filter(|dimension| dimension.is_metered());
        let dimension = dimension.ok_or_else(|| ImportError::NotMetered(key.clone()))?;
        bill_feature_in(connection, feature, &id, dimension, now)?;
    }
    let mut usage_plan = import.usage_plan.clone();
    for (key, plan) in &import.plans {
        let dimension = by_key.get(key);
        let name = dimension.map_or(plan.as_str(), |dimension| dimension.name.as_str());
        write_plan_in(connection, plan, name, Some(&id), Source::Aws, now)?;
        if dimension.is_some_and(|dimension| dimension.is_entitled()) {
            map_dimension(connection, &id, key, plan)?;
        } else {
            // Nobody holds a dimension that is only metered: what it is mapped to is the usage plan.
            usage_plan = usage_plan.or_else(|| Some(plan.clone()));
        }
    }
    let sells_contracts = listing.dimensions.iter().any(Dimension::is_entitled);
    let usage_plan = usage_plan
        .or_else(|| held.and_then(|held| held.usage_plan_id))
        .or_else(|| (!sells_contracts).then(|| PlanId::new(format!("{id}-usage"))));
    if let Some(plan) = &usage_plan {
        write_plan_in(
            connection,
            plan,
            &format!("{} usage", listing.title),
            Some(&id),
            Source::Aws,
            now,
        )?;
    }
    connection
        .prepare_cached("UPDATE products SET usage_plan_id = ?2 WHERE id = ?1")
        .and_then(|mut update| {
            update.execute((id.as_str(), usage_plan.as_ref().map(PlanId::as_str)))
        })
        .during("set a product's usage plan")?;
    let product = product_in(connection, &id)?.ok_or(StoreError::Corrupt {
        what: "a product",
        detail: format!("{id} is gone after it was written"),
    })?;
    append_event_in(connection, "product.imported", None, &product, now)?;
    Ok(product)
}

/// A plan with customers of the seller's own would turn into one that AWS sells under them.
fn refuse_sold_directly(connection: &Connection, plan: &PlanId) -> Result<(), ImportError> {
    let sold = connection
        .prepare_cached(
            "SELECT 1 FROM subscriptions WHERE plan_id = ?1 AND source = 'direct' AND ended_at_ms IS NULL",
        )
        .and_then(|mut select| select.exists([plan.as_str()]))
        .during("look for a plan's direct customers")?;
    if sold { Err(ImportError::SoldDirectly(plan.clone())) } else { Ok(()) }
}

/// Has a feature's usage billed by a dimension; a feature that is not there yet is named after it.
fn bill_feature_in(
    connection: &Connection,
    id: &FeatureId,
    product: &ProductId,
    dimension: &Dimension,
    now: Timestamp,
) -> Result<(), ImportError> {
    let held = feature_in(connection, id)?;
    if held.as_ref().is_some_and(|held| held.kind != FeatureKind::Metered) {
        return Err(ImportError::FeatureNotMetered(id.clone()));
    }
    let mut feature = held.unwrap_or_else(|| Feature {
        id: id.clone(),
        name: dimension.name.clone(),
        kind: FeatureKind::Metered,
        unit: dimension.unit.clone(),
        dimensions: BTreeMap::new(),
        when_stale: WhenStale::default(),
    });
    feature.dimensions.insert(product.clone(), dimension.key.clone());
    Ok(write_feature_in(connection, &feature, now)?)
}

fn write_product(
    connection: &Connection,
    id: &ProductId,
    code: &ProductCode,
    listing: &Listing,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO products (id, code, entity_id, title, visibility, document, imported_at_ms, synced_at_ms)
             VALUES (:id, :code, :entity, :title, :visibility, :document, :now, :now)
             ON CONFLICT (id) DO UPDATE SET title = :title, visibility = :visibility,
                 document = :document, synced_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.execute(named_params! {
                ":id": id.as_str(), ":code": code.as_str(), ":entity": listing.entity_id.as_str(),
                ":title": listing.title, ":visibility": listing.visibility,
                ":document": listing.document.to_string(), ":now": millis(now),
            })
        })
        .during("write a product")?;
    Ok(())
}

fn write_dimensions(
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
                 ON CONFLICT DO UPDATE SET name = :name, unit = :unit, entitled = :entitled,
                     metered = :metered, types = :types, removed_at_ms = NULL",
            )
            .and_then(|mut upsert| {
                upsert.execute(named_params! {
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
                    update.execute((product.as_str(), held.key.as_str(), millis(now)))
                })
                .during("mark a dimension as gone")?;
        }
    }
    Ok(())
}

fn map_dimension(
    connection: &Connection,
    product: &ProductId,
    key: &DimensionKey,
    plan: &PlanId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE dimensions SET plan_id = ?3 WHERE product_id = ?1 AND key = ?2")
        .and_then(|mut update| update.execute((product.as_str(), key.as_str(), plan.as_str())))
        .during("map a dimension")?;
    Ok(())
}

fn compare(product: &Product, listing: &Listing) -> ProductChanges {
    let described = |it: &Dimension| (it.name.clone(), it.unit.clone(), it.types.clone());
    let held: BTreeMap<&DimensionKey, &Dimension> = product
        .dimensions
        .iter()
        .filter(|dimension| dimension.removed_at.is_none())
        .map(|dimension| (&dimension.key, dimension))
        .collect();
    let listed: BTreeSet<&DimensionKey> = listing.dimensions.iter().map(|it| &it.key).collect();
    let mut changes = ProductChanges::default();
    for dimension in &listing.dimensions {
        match held.get(&dimension.key) {
            None => changes.added.push(dimension.clone()),
            Some(held) if described(held) != described(dimension) => {
                changes
                    .changed
                    .push(Dimension { plan_id: held.plan_id.clone(), ..dimension.clone() });
            }
            Some(_) => {}
        }
    }
    let gone = held.into_iter().filter(|(key, _)| !listed.contains(key));
    changes.removed.extend(gone.map(|(_, dimension)| dimension.clone()));
    changes
}

fn find(
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

fn product_of_entity(
    connection: &Connection,
    entity_id: &EntityId,
) -> Result<Option<Product>, StoreError> {
    let id = find(connection, "SELECT id FROM products WHERE entity_id = ?1", entity_id.as_str())?;
    id.map_or(Ok(None), |id| product_in(connection, &id))
}

fn product_in(connection: &Connection, id: &ProductId) -> Result<Option<Product>, StoreError> {
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
                    })
                })
                .optional()
        })
        .during("read a product")?;
    let Some(mut product) = found else {
        return Ok(None);
    };
    product.dimensions = dimensions_in(connection, id)?;
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
