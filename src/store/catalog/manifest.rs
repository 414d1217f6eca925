//! Making the catalogue what a file says, whole or not at all, and writing that file.
//!
//! A dry run does everything and undoes it, so it shows exactly what would come of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::features::{FeatureChange, feature_in, put_feature_in};
use super::import::{ImportError, ImportProduct, Mapping, import_in, map_in, unmap_in};
use super::manifest_export::{export_in, removed_dimensions_in};
use super::manifest_outcome::{ManifestError, ManifestOutcome};
use super::manifest_plan::apply_plan;
use super::products::{Listing, product_in};
use super::regrant::GrantedFeatures;
use crate::domain::manifest::{Catalogue, Change, FeatureEntry, ProductEntry, differences};
use crate::domain::plan::Audience;
use crate::domain::product::Dimension;
use crate::domain::{DimensionKey, EntityId, FeatureId, PlanId, ProductId};
use crate::store::engine::sql::Connection;
use crate::store::facts::release::release_in;
use crate::store::{Store, StoreError};

/// A file to apply.
#[derive(Clone, Debug)]
pub struct ManifestRequest {
    /// The file.
    pub file: Catalogue,
    /// The listings of products that are not imported yet.
    pub listings: BTreeMap<EntityId, Listing>,
    /// The audience of changes to published plans. Without one, each change is for everybody, and those who are held
    /// to an older version stay held to the rest of it.
    pub audience: Option<Audience>,
    /// True if everything is to be undone again.
    pub dry_run: bool,
}

impl Store {
    /// Exports the catalogue as a file.
    pub async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        self.read(export_in).await
    }

    /// Makes the catalogue what a file says; what that changed.
    pub async fn apply_catalogue(
        &self,
        applying: ManifestRequest,
        now: Timestamp,
    ) -> Result<ManifestOutcome, ManifestError> {
        let applied = self
            .write(move |connection| {
                let applied = apply_in(connection, &applying, now)?;
                if applying.dry_run { Err(ManifestError::DryRun(applied)) } else { Ok(applied) }
            })
            .await;
        let applied = match applied {
            Err(ManifestError::DryRun(applied)) => return Ok(applied),
            applied => applied?,
        };
        Ok(applied)
    }
}

fn apply_in(
    connection: &Connection,
    applying: &ManifestRequest,
    now: Timestamp,
) -> Result<ManifestOutcome, ManifestError> {
    let before = written(&export_in(connection)?)?;
    let granted = GrantedFeatures::read(connection)?;
    for (id, entry) in &applying.file.products {
        apply_product(connection, id, entry, applying, now)
            .map_err(|error| ManifestError::at(error, &["products", id.as_str()]))?;
    }
    for (id, entry) in &applying.file.features {
        apply_feature(connection, id, entry, now)
            .map_err(|error| ManifestError::at(error, &["features", id.as_str()]))?;
    }
    for (id, entry) in &applying.file.plans {
        apply_plan(connection, id, entry, applying.audience, now)
            .map_err(|error| ManifestError::at(error, &["plans", id.as_str()]))?;
    }
    let after = written(&export_in(connection)?)?;
    let changes = differences(&before, &after);
    if touches_products(&changes) {
        for id in applying.file.products.keys() {
            if let Some(product) = product_in(connection, id)? {
                release_in(connection, &product.product_code, now)?;
            }
        }
    }
    let regranted = if changes.is_empty() {
        Vec::new()
    } else {
        GrantedFeatures::read(connection)?.since(&granted)
    };
    Ok(ManifestOutcome { changes, regranted })
}

fn touches_products(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.path.starts_with("products"))
}

fn written(catalogue: &Catalogue) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(catalogue)
        .map_err(|error| StoreError::Corrupt { what: "the catalogue", detail: error.to_string() })
}

fn apply_product(
    connection: &Connection,
    id: &ProductId,
    entry: &ProductEntry,
    applying: &ManifestRequest,
    now: Timestamp,
) -> Result<(), ManifestError> {
    let Some(held) = product_in(connection, id)? else {
        let listing = applying.listings.get(&entry.entity_id);
        let listing = listing.ok_or_else(|| ImportError::NotListed(entry.entity_id.clone()))?;
        let import = ImportProduct {
            product_id: Some(id.clone()),
            listing: listing.clone(),
            plans: entry.plans.clone().unwrap_or_default(),
            usage_plan: entry.usage_plan.clone(),
            features: BTreeMap::new(),
        };
        import_in(connection, &import, now)?;
        return Ok(());
    };
    if held.entity_id != entry.entity_id {
        let (product, held, said) = (id.clone(), held.entity_id, entry.entity_id.clone());
        return Err(ManifestError::OtherListing { product, held, said });
    }
    // A mapping of a dimension that is gone stays as it was, named or not: those who bought it have the plan.
    let (gone, listed): (Vec<Dimension>, Vec<Dimension>) =
        held.dimensions.into_iter().partition(|it| it.removed_at.is_some());
    let mapped = |dimensions: &[Dimension]| -> BTreeMap<DimensionKey, PlanId> {
        dimensions.iter().filter_map(|it| Some((it.key.clone(), it.plan_id.clone()?))).collect()
    };
    let (gone, mapped) = (mapped(&gone), mapped(&listed));
    let named = entry.plans.as_ref().unwrap_or(&mapped);
    let usage_plan =
        entry.usage_plan.as_ref().filter(|it| Some(*it) != held.usage_plan_id.as_ref());
    let held_as = |key: &DimensionKey| mapped.get(key).or_else(|| gone.get(key));
    let plans: BTreeMap<DimensionKey, PlanId> = named
        .iter()
        .filter(|(key, plan)| held_as(key) != Some(*plan))
        .map(|(key, plan)| (key.clone(), plan.clone()))
        .collect();
    if !plans.is_empty() || usage_plan.is_some() {
        let features = BTreeMap::new();
        let mapping = Mapping { plans: &plans, usage_plan, features: &features };
        map_in(connection, id, &held.title, &listed, &mapping, now)?;
    }
    let unnamed = mapped.keys().filter(|key| !named.contains_key(*key));
    Ok(unmap_in(connection, id, unnamed, now)?)
}

fn apply_feature(
    connection: &Connection,
    id: &FeatureId,
    entry: &FeatureEntry,
    now: Timestamp,
) -> Result<(), ManifestError> {
    let FeatureEntry { name, kind, unit, when_stale, mut dimensions } = entry.clone();
    if let (Some(named), Some(held)) = (&mut dimensions, feature_in(connection, id)?) {
        // No file names a dimension that is gone, so none unlinks it: usage of it may still be billed.
        let gone = removed_dimensions_in(connection)?;
        for link in held.dimensions.into_iter().filter(|link| gone.contains(link)) {
            named.entry(link.0).or_insert(link.1);
        }
    }
    let change = FeatureChange { id: id.clone(), name, kind, unit, dimensions, when_stale };
    put_feature_in(connection, &change, now)?;
    Ok(())
}
