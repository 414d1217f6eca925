//! Making the catalogue what a file says, whole or not at all, and writing that file.
//!
//! A dry run does everything and undoes it, so it shows exactly what would come of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Connection;

use super::features::{feature_in, put_feature_in};
use super::importing::{Mapping, import_in, map_in};
use super::plan_entitlements::{put_entitlement_in, remove_entitlement_in};
use super::plans::{known_plan, plan_in, put_plan_in};
use super::products::product_in;
use super::publishing::{archive_in, discard_in, publish_in};
use super::{
    During, FeatureError, ImportError, ImportProduct, Listing, PlanError, Store, StoreError,
};
use crate::domain::catalogue::{
    Catalogue, Change, FeatureEntry, PlanEntry, ProductEntry, TermsEntry, differences,
};
use crate::domain::plan::{Audience, Dimension, Feature, Plan, PlanEntitlement, PlanStatus};
use crate::domain::{DimensionKey, EntityId, FeatureId, PlanId, ProductId};

/// A file to apply.
#[derive(Clone, Debug)]
pub struct Applying {
    /// The file.
    pub file: Catalogue,
    /// The listings of products that are not imported yet.
    pub listings: BTreeMap<EntityId, Listing>,
    /// Whom changes to published plans are for.
    pub audience: Audience,
    /// Whether everything is undone again.
    pub dry_run: bool,
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
    /// A listing could not be imported or mapped.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A feature could not be written.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// A plan could not be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nothing is wrong: these changes were undone, as was asked.
    #[error("this was a dry run")]
    DryRun(Vec<Change>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    ) -> Result<Vec<Change>, CatalogueError> {
        let products: Vec<ProductId> = applying.file.products.keys().cloned().collect();
        let applied = self
            .write(move |connection| {
                let changes = apply_in(connection, &applying, now)?;
                if applying.dry_run { Err(CatalogueError::DryRun(changes)) } else { Ok(changes) }
            })
            .await;
        let changes = match applied {
            Err(CatalogueError::DryRun(changes)) => return Ok(changes),
            applied => applied?,
        };
        if changes.iter().any(|change| change.path.starts_with("products")) {
            for id in products {
                if let Some(product) = self.product(id).await? {
                    self.release_product(product.product_code, now).await?;
                }
            }
        }
        self.nudge_events();
        Ok(changes)
    }
}

fn apply_in(
    connection: &Connection,
    applying: &Applying,
    now: Timestamp,
) -> Result<Vec<Change>, CatalogueError> {
    let before = written(&export_in(connection)?)?;
    for (id, entry) in &applying.file.products {
        apply_product(connection, id, entry, applying, now)?;
    }
    for (id, entry) in &applying.file.features {
        apply_feature(connection, id, entry, now)?;
    }
    for (id, entry) in &applying.file.plans {
        apply_plan(connection, id, entry, applying.audience, now)?;
    }
    let after = written(&export_in(connection)?)?;
    Ok(differences(&before, &after))
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
    let held = product_in(connection, id)?;
    if let Some(held) = held.as_ref().filter(|held| held.entity_id != entry.entity_id) {
        let (product, held, said) = (id.clone(), held.entity_id.clone(), entry.entity_id.clone());
        return Err(CatalogueError::OtherListing { product, held, said });
    }
    let mapped: BTreeMap<DimensionKey, PlanId> = held
        .iter()
        .flat_map(|product| &product.dimensions)
        .filter_map(|it| Some((it.key.clone(), it.plan_id.clone()?)))
        .collect();
    let usage_plan = held.as_ref().and_then(|product| product.usage_plan_id.clone());
    let as_it_is = entry.usage_plan.is_none() || entry.usage_plan == usage_plan;
    if held.is_some() && mapped == entry.plans && as_it_is {
        return Ok(());
    }
    let features = BTreeMap::new();
    match (&held, applying.listings.get(&entry.entity_id)) {
        (Some(product), _) => {
            // A mapping of a dimension that is gone stays as it was.
            let changed = entry.plans.iter().filter(|(key, plan)| mapped.get(*key) != Some(*plan));
            let plans = changed.map(|(key, plan)| (key.clone(), plan.clone())).collect();
            let listed: Vec<Dimension> =
                product.dimensions.iter().filter(|it| it.removed_at.is_none()).cloned().collect();
            let usage_plan = entry.usage_plan.as_ref();
            let mapping = Mapping { plans: &plans, usage_plan, features: &features };
            map_in(connection, id, &product.title, &listed, &mapping, now)?;
        }
        (None, Some(listing)) => {
            let import = ImportProduct {
                product_id: Some(id.clone()),
                listing: listing.clone(),
                plans: entry.plans.clone(),
                usage_plan: entry.usage_plan.clone(),
                features,
            };
            import_in(connection, &import, now)?;
        }
        (None, None) => return Err(ImportError::NotListed(entry.entity_id.clone()).into()),
    }
    for key in mapped.keys().filter(|key| !entry.plans.contains_key(*key)) {
        connection
            .prepare_cached(
                "UPDATE dimensions SET plan_id = NULL WHERE product_id = ?1 AND key = ?2",
            )
            .and_then(|mut update| update.execute((id.as_str(), key.as_str())))
            .during("unmap a dimension")?;
    }
    Ok(())
}

fn apply_feature(
    connection: &Connection,
    id: &FeatureId,
    entry: &FeatureEntry,
    now: Timestamp,
) -> Result<(), CatalogueError> {
    let FeatureEntry { name, kind, unit, when_stale, dimensions } = entry.clone();
    let feature = Feature { id: id.clone(), name, kind, unit, dimensions, when_stale };
    if feature_in(connection, id)?.as_ref() != Some(&feature) {
        put_feature_in(connection, &feature, now)?;
    }
    Ok(())
}

fn apply_plan(
    connection: &Connection,
    id: &PlanId,
    entry: &PlanEntry,
    audience: Audience,
    now: Timestamp,
) -> Result<(), CatalogueError> {
    let held = plan_in(connection, id)?;
    let same = |held: &Plan| {
        held.name == entry.name && (entry.product.is_none() || held.product_id == entry.product)
    };
    if !held.as_ref().is_some_and(same) {
        put_plan_in(connection, id, &entry.name, entry.product.clone(), now)?;
    }
    let published = held.as_ref().is_some_and(|plan| plan.version.is_some());
    if entry.status == PlanStatus::Draft && published {
        return Err(CatalogueError::Published(id.clone()));
    }
    if entry.status == PlanStatus::Draft && entry.draft.is_some() {
        return Err(CatalogueError::DraftOfDraft(id.clone()));
    }
    if published {
        // What is compared and changed is what is published.
        let settled = held.iter().all(|plan| listed(&plan.entitlements) == entry.entitlements);
        if !settled || entry.draft.is_none() {
            discard_in(connection, id, now)?;
        }
    }
    if !published || known_plan(connection, id)?.draft.is_none() {
        become_in(connection, id, &entry.entitlements, now)?;
    }
    match entry.status {
        PlanStatus::Draft => {}
        PlanStatus::Published => {
            let plan = known_plan(connection, id)?;
            let settled = plan.status == PlanStatus::Published
                && listed(&plan.entitlements) == entry.entitlements;
            if !settled {
                publish_in(connection, id, audience, now)?;
            }
        }
        PlanStatus::Archived => {
            if known_plan(connection, id)?.draft.is_some() && entry.draft.is_none() {
                publish_in(connection, id, audience, now)?;
            }
            archive_in(connection, id, now)?;
        }
    }
    if let Some(draft) = &entry.draft {
        become_in(connection, id, draft, now)?;
    }
    Ok(())
}

/// Makes a plan's newest version grant just this.
fn become_in(
    connection: &Connection,
    id: &PlanId,
    wanted: &BTreeMap<FeatureId, TermsEntry>,
    now: Timestamp,
) -> Result<(), CatalogueError> {
    for (feature_id, TermsEntry(terms)) in wanted {
        let entitlement = PlanEntitlement { feature_id: feature_id.clone(), terms: terms.clone() };
        put_entitlement_in(connection, id, &entitlement, now)?;
    }
    for held in known_plan(connection, id)?.newest() {
        if !wanted.contains_key(&held.feature_id) {
            remove_entitlement_in(connection, id, &held.feature_id, now)?;
        }
    }
    Ok(())
}

fn listed(entitlements: &[PlanEntitlement]) -> BTreeMap<FeatureId, TermsEntry> {
    entitlements.iter().map(|it| (it.feature_id.clone(), TermsEntry(it.terms.clone()))).collect()
}

fn export_in(connection: &Connection) -> Result<Catalogue, StoreError> {
    let mut catalogue = Catalogue::default();
    for id in ids(connection, "SELECT id FROM products ORDER BY id")? {
        let id = ProductId::new(id);
        let Some(product) = product_in(connection, &id)? else { continue };
        let plans = product.dimensions.into_iter().filter_map(|it| Some((it.key, it.plan_id?)));
        let entry = ProductEntry {
            entity_id: product.entity_id,
            usage_plan: product.usage_plan_id,
            plans: plans.collect(),
        };
        catalogue.products.insert(id, entry);
    }
    for id in ids(connection, "SELECT id FROM features ORDER BY id")? {
        let Some(feature) = feature_in(connection, &FeatureId::new(id))? else { continue };
        let Feature { id, name, kind, unit, dimensions, when_stale } = feature;
        let entry = FeatureEntry { name, kind, unit, when_stale, dimensions };
        catalogue.features.insert(id, entry);
    }
    for id in ids(connection, "SELECT id FROM plans ORDER BY id")? {
        let Some(plan) = plan_in(connection, &PlanId::new(id))? else { continue };
        let entry = PlanEntry {
            name: plan.name,
            product: plan.product_id,
            status: plan.status,
            entitlements: listed(&plan.entitlements),
            draft: plan.draft.map(|draft| listed(&draft.entitlements)),
        };
        catalogue.plans.insert(plan.id, entry);
    }
    Ok(catalogue)
}

fn ids(connection: &Connection, statement: &'static str) -> Result<Vec<String>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .during("list the catalogue")
}
