//! Making the catalogue what a file says, whole or not at all, and writing that file.
//!
//! A dry run does everything and undoes it, so it shows exactly what would come of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Connection;

use super::apply_plan::apply_plan;
use super::exporting::{export_in, removed_dimensions_in};
use super::features::{feature_in, put_feature_in};
use super::importing::{Mapping, import_in, map_in, unmap_in};
use super::products::product_in;
use super::regranting::Standings;
use super::releasing::release_in;
use super::{
    FeatureChange, FeatureError, ImportError, ImportProduct, Listing, PlanError, Store, StoreError,
};
use crate::domain::catalogue::{Catalogue, Change, FeatureEntry, ProductEntry, differences};
use crate::domain::plan::{Audience, Dimension};
use crate::domain::rollout::Regranted;
use crate::domain::{DimensionKey, EntityId, FeatureId, PlanId, ProductId};

/// A file to apply.
#[derive(Clone, Debug)]
pub struct Applying {
    /// The file.
    pub file: Catalogue,
    /// The listings of products that are not imported yet.
    pub listings: BTreeMap<EntityId, Listing>,
    /// Whom changes to published plans are for. If nothing is said, each change is for everybody, and those who are held
    /// to an older version stay held to the rest of it.
    pub audience: Option<Audience>,
    /// Whether everything is undone again.
    pub dry_run: bool,
}

/// What applying a file comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// What becomes otherwise in the catalogue.
    pub changes: Vec<Change>,
    /// Who comes to have other features.
    pub regranted: Vec<Regranted>,
}

/// Why a file could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A product is another listing's.
    #[error("product {product} is listing {held}, and the file says {said}")]
    OtherListing {
        /// The product.
        product: ProductId,
        /// Its listing.
        held: EntityId,
        /// What the file says.
        said: EntityId,
    },
    /// Customers have the plan.
    #[error("plan {0} is published: it can be archived, and not be a draft again")]
    Published(PlanId),
    /// A draft of what is not published is the plan itself.
    #[error("plan {0} has a draft beside its entitlements, which only a published plan has")]
    DraftOfDraft(PlanId),
    /// The plan's draft and the file change the same features, each in its own way.
    #[error(
        "plan {plan} has a draft that changes {} too: publish or discard it, or say in the file what the draft is",
        features.iter().map(crate::domain::Id::as_str).collect::<Vec<_>>().join(", ")
    )]
    DraftContradicts {
        /// The plan.
        plan: PlanId,
        /// What both change.
        features: Vec<FeatureId>,
    },
    /// A listing could not be imported or mapped.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A feature could not be written.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// A plan could not be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What is wrong is in this place of the file.
    #[error("{}: {source}", place.join("."))]
    At {
        /// The keys that lead there.
        place: Vec<String>,
        /// What is wrong.
        source: Box<Self>,
    },
    /// Nothing is wrong: these changes were undone, as was asked.
    #[error("this was a dry run")]
    DryRun(Applied),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CatalogueError {
    /// The same with the place of the file where it is wrong; what is within a place is told from without.
    pub(super) fn at(error: impl Into<Self>, outer: &[&str]) -> Self {
        let outer = outer.iter().map(|key| (*key).to_owned());
        match error.into() {
            Self::At { place, source } => Self::At { place: outer.chain(place).collect(), source },
            error @ Self::Store(_) => error,
            error => Self::At { place: outer.collect(), source: Box::new(error) },
        }
    }
}

impl Store {
    /// The catalogue as a file.
    pub async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        self.read(export_in).await
    }

    /// Makes the catalogue what a file says; what that changed.
    pub async fn apply_catalogue(
        &self,
        applying: Applying,
        now: Timestamp,
    ) -> Result<Applied, CatalogueError> {
        let applied = self
            .write(move |connection| {
                let applied = apply_in(connection, &applying, now)?;
                if applying.dry_run { Err(CatalogueError::DryRun(applied)) } else { Ok(applied) }
            })
            .await;
        let applied = match applied {
            Err(CatalogueError::DryRun(applied)) => return Ok(applied),
            applied => applied?,
        };
        if touches_products(&applied.changes) {
            self.nudge_released();
        }
        self.nudge_events();
        Ok(applied)
    }
}

fn apply_in(
    connection: &Connection,
    applying: &Applying,
    now: Timestamp,
) -> Result<Applied, CatalogueError> {
    let before = written(&export_in(connection)?)?;
    let standings = Standings::read(connection)?;
    for (id, entry) in &applying.file.products {
        apply_product(connection, id, entry, applying, now)
            .map_err(|error| CatalogueError::at(error, &["products", id.as_str()]))?;
    }
    for (id, entry) in &applying.file.features {
        apply_feature(connection, id, entry, now)
            .map_err(|error| CatalogueError::at(error, &["features", id.as_str()]))?;
    }
    for (id, entry) in &applying.file.plans {
        apply_plan(connection, id, entry, applying.audience, now)
            .map_err(|error| CatalogueError::at(error, &["plans", id.as_str()]))?;
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
        Standings::read(connection)?.since(&standings)
    };
    Ok(Applied { changes, regranted })
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
    applying: &Applying,
    now: Timestamp,
) -> Result<(), CatalogueError> {
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
        return Err(CatalogueError::OtherListing { product, held, said });
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
) -> Result<(), CatalogueError> {
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
