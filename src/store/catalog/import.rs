//! Importing listings: their dimensions become plans, and bill features.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::features::{feature_in, write_feature_in};
use super::plan_rows::{PlanError, exists};
use super::plans::{update_plan_sources_in, write_plan_in};
use super::products::{Listing, find, product_in, product_of_entity, write_dimensions};
use super::sellers::note_owner_in;
use super::sync::hold_import_in;
use crate::domain::event::EventType;
use crate::domain::feature::{Feature, FeatureKind, WhenStale};
use crate::domain::product::{Dimension, Product};
use crate::domain::{DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, UnfitId};
use crate::store::base::activity::say;
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::{Connection, named_params};
use crate::store::facts::listings::list_whole_in;
use crate::store::facts::release::release_in;
use crate::store::{During, Store, StoreError};

/// A request to import a listing.
#[derive(Clone, Debug)]
pub struct ImportProduct {
    /// Our id; the catalog's where none is chosen.
    pub product_id: Option<ProductId>,
    /// The listing.
    pub listing: Listing,
    /// The plan that each dimension means.
    pub plans: BTreeMap<DimensionKey, PlanId>,
    /// The plan of those who pay as they go.
    pub usage_plan: Option<PlanId>,
    /// The feature that each metered dimension bills; made where there is none.
    pub features: BTreeMap<DimensionKey, FeatureId>,
}

/// The reason why a listing could not be imported as asked.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The listing has no product code yet.
    #[error("{0} has no product code: AWS gives one when the listing leaves the draft state")]
    NoProductCode(EntityId),
    /// The catalog was not asked for it.
    #[error("{0} is not imported")]
    NotListed(EntityId),
    /// The mapping names what the listing does not have.
    #[error("the listing has no dimension {dimension}; it has {known}")]
    UnknownDimension {
        /// The dimension.
        dimension: DimensionKey,
        /// Those that it has.
        known: String,
    },
    /// The listing has another id already.
    #[error(
        "listing {entity} is imported as product {held}: leave product_id out, or say {held}; a product keeps its id"
    )]
    ImportedAs {
        /// The listing.
        entity: EntityId,
        /// Its product.
        held: ProductId,
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
    /// The listing lacks all that was imported, which is not believed without a person's word.
    #[error(
        "listing {entity} shows none of the {dimensions} dimensions of product {product} any more: nothing was imported. If it is right, `marketd product confirm-endings {product}` takes it over; then import it again"
    )]
    Held {
        /// The listing.
        entity: EntityId,
        /// Its product.
        product: ProductId,
        /// The number of dimensions that are gone.
        dimensions: usize,
    },
    /// Only usage is billed by a feature.
    #[error("dimension {0} is not metered: no feature's usage is billed by it")]
    NotMetered(DimensionKey),
    /// The feature is of another kind.
    #[error("feature {0} is not metered: it has no usage to bill")]
    FeatureNotMetered(FeatureId),
    /// Something new cannot have the id that was chosen for it.
    #[error("{field}: {source}")]
    Unfit {
        /// What names it in the request.
        field: String,
        /// The rule that it breaks.
        source: UnfitId,
    },
    /// A plan could not be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Imports a listing, or maps it anew.
    pub async fn import_product(
        &self,
        import: ImportProduct,
        now: Timestamp,
    ) -> Result<Product, ImportError> {
        self.write(move |connection| {
            let entity = &import.listing.entity_id;
            if let Some(held) = product_of_entity(connection, entity)?
                && let Some(dimensions) = hold_import_in(connection, &held, &import.listing, now)?
            {
                // That it is held back is kept, so that a person can let it go.
                let (entity, product) = (entity.clone(), held.id);
                return Ok(Err(ImportError::Held { entity, product, dimensions }));
            }
            if product_of_entity(connection, entity)?.is_some() {
                say(&json!({"action": "map"}));
            }
            let product = import_in(connection, &import, now)?;
            list_whole_in(connection, Some(&product.id))?;
            release_in(connection, &product.product_code, now)?;
            Ok::<_, ImportError>(Ok(product))
        })
        .await?
    }
}

pub(crate) fn import_in(
    connection: &Connection,
    import: &ImportProduct,
    now: Timestamp,
) -> Result<Product, ImportError> {
    let listing = &import.listing;
    let code = listing
        .product_code
        .as_ref()
        .ok_or_else(|| ImportError::NoProductCode(listing.entity_id.clone()))?;
    let held = product_of_entity(connection, &listing.entity_id)?;
    if let (Some(held), Some(said)) = (&held, &import.product_id)
        && held.id != *said
    {
        let (entity, held) = (listing.entity_id.clone(), held.id.clone());
        return Err(ImportError::ImportedAs { entity, held });
    }
    let id = match &held {
        Some(held) => held.id.clone(),
        None => {
            import.product_id.clone().unwrap_or_else(|| ProductId::new(listing.entity_id.as_str()))
        }
    };
    if held.is_none() {
        if product_in(connection, &id)?.is_some() {
            return Err(ImportError::IdTaken(id));
        }
        id.check_new()
            .map_err(|source| ImportError::Unfit { field: "product_id".to_owned(), source })?;
    }
    let of_code = find(connection, "SELECT id FROM products WHERE code = ?1", code.as_str())?;
    if let Some(held) = of_code.filter(|held| *held != id) {
        return Err(ImportError::CodeTaken { held, code: code.clone() });
    }
    write_product(connection, &id, code, listing, now)?;
    write_dimensions(connection, &id, &listing.dimensions, now)?;
    let usage_plan = import.usage_plan.as_ref();
    let mapping = Mapping { plans: &import.plans, usage_plan, features: &import.features };
    map_in(connection, &id, &listing.title, &listing.dimensions, &mapping, now)?;
    let product = product_in(connection, &id)?.ok_or(StoreError::Corrupt {
        what: "a product",
        detail: format!("{id} is gone after it was written"),
    })?;
    append_event_in(connection, EventType::ProductImported, None, &product, now)?;
    Ok(product)
}

/// The mapping of a product's dimensions to plans.
pub(crate) struct Mapping<'a> {
    /// The plan of each entitled dimension.
    pub(crate) plans: &'a BTreeMap<DimensionKey, PlanId>,
    /// The plan of those who pay as they go.
    pub(crate) usage_plan: Option<&'a PlanId>,
    /// The feature that each metered dimension bills.
    pub(crate) features: &'a BTreeMap<DimensionKey, FeatureId>,
}

/// Maps a product's dimensions; those that the mapping does not name stay as they are, and so does the usage plan.
pub(crate) fn map_in(
    connection: &Connection,
    id: &ProductId,
    title: &str,
    dimensions: &[Dimension],
    mapping: &Mapping<'_>,
    now: Timestamp,
) -> Result<(), ImportError> {
    let by_key: BTreeMap<&DimensionKey, &Dimension> =
        dimensions.iter().map(|dimension| (&dimension.key, dimension)).collect();
    let mut named = mapping.plans.keys().chain(mapping.features.keys());
    if let Some(unknown) = named.find(|key| !by_key.contains_key(key)) {
        let known: Vec<&str> = by_key.keys().map(|key| key.as_str()).collect();
        return Err(ImportError::UnknownDimension {
            dimension: unknown.clone(),
            known: if known.is_empty() { "none".into() } else { known.join(", ") },
        });
    }
    for plan in mapping.plans.values().chain(mapping.usage_plan) {
        refuse_sold_directly(connection, plan)?;
    }
    check_new_ids(connection, mapping)?;
    for (key, feature) in mapping.features {
        let dimension = by_key.get(key).filter(|dimension| dimension.is_metered());
        let dimension = dimension.ok_or_else(|| ImportError::NotMetered(key.clone()))?;
        bill_feature_in(connection, feature, id, dimension, now)?;
    }
    let mut usage_plan = mapping.usage_plan.cloned();
    for (key, plan) in mapping.plans {
        let dimension = by_key.get(key);
        let name = dimension.map_or(plan.as_str(), |dimension| dimension.name.as_str());
        write_plan_in(connection, plan, name, Some(id), now)?;
        if dimension.is_some_and(|dimension| dimension.is_entitled()) {
            map_dimension(connection, id, key, plan)?;
        } else {
            // Nobody holds a dimension that is only metered: what it is mapped to is the usage plan.
            usage_plan = usage_plan.or_else(|| Some(plan.clone()));
        }
    }
    let sells_contracts = dimensions.iter().any(Dimension::is_entitled);
    let held = product_in(connection, id)?.and_then(|held| held.usage_plan_id);
    let usage_plan = usage_plan
        .or(held)
        .or_else(|| (!sells_contracts).then(|| PlanId::new(format!("{id}-usage"))));
    if let Some(plan) = &usage_plan {
        refuse_sold_directly(connection, plan)?;
        write_plan_in(connection, plan, &format!("{title} usage"), Some(id), now)?;
    }
    connection
        .prepare_cached("UPDATE products SET usage_plan_id = ?2 WHERE id = ?1")
        .and_then(|mut update| {
            update.execute((id.as_str(), usage_plan.as_ref().map(PlanId::as_str)))
        })
        .during("set a product's usage plan")?;
    Ok(update_plan_sources_in(connection, now)?)
}

/// Refuses ids that plans and features which the mapping makes cannot have.
fn check_new_ids(connection: &Connection, mapping: &Mapping<'_>) -> Result<(), ImportError> {
    let unfit = |field: String| move |source| ImportError::Unfit { field, source };
    let of_dimensions = mapping.plans.iter().map(|(key, plan)| (format!("plans.{key}"), plan));
    let of_usage = mapping.usage_plan.map(|plan| ("usage_plan".to_owned(), plan));
    for (field, plan) in of_dimensions.chain(of_usage) {
        if !exists(connection, "SELECT 1 FROM plans WHERE id = ?1", plan.as_str())? {
            plan.check_new().map_err(unfit(field))?;
        }
    }
    for (key, feature) in mapping.features {
        if !exists(connection, "SELECT 1 FROM features WHERE id = ?1", feature.as_str())? {
            feature.check_new().map_err(unfit(format!("features.{key}")))?;
        }
    }
    Ok(())
}

/// Has dimensions mean no plan any more.
pub(crate) fn unmap_in<'a>(
    connection: &Connection,
    id: &ProductId,
    keys: impl Iterator<Item = &'a DimensionKey>,
    now: Timestamp,
) -> Result<(), ImportError> {
    for key in keys {
        connection
            .prepare_cached(
                "UPDATE dimensions SET plan_id = NULL WHERE product_id = ?1 AND key = ?2",
            )
            .and_then(|mut update| update.post((id.as_str(), key.as_str())))
            .during("unmap a dimension")?;
    }
    Ok(update_plan_sources_in(connection, now)?)
}

/// Refuses to map a dimension to a plan with customers of the seller's own, since AWS would then sell it under them.
fn refuse_sold_directly(connection: &Connection, plan: &PlanId) -> Result<(), ImportError> {
    let sold = connection
        .prepare_cached(
            "SELECT 1 FROM subscriptions s JOIN plans p ON p.id = s.plan_id AND p.source = 'direct'
             WHERE s.plan_id = ?1 AND s.source = 'direct' AND s.ended_at_ms IS NULL",
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
            upsert.post(named_params! {
                ":id": id.as_str(), ":code": code.as_str(), ":entity": listing.entity_id.as_str(),
                ":title": listing.title, ":visibility": listing.visibility,
                ":document": listing.document.to_string(), ":now": millis(now),
            })
        })
        .during("write a product")?;
    note_owner_in(connection, listing)
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
