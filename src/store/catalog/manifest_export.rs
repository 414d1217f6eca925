//! Writing the catalogue down as a file.

use std::collections::{BTreeMap, BTreeSet};

use super::features::feature_in;
use super::plan_rows::{entitlements_in, plan_in};
use super::products::product_in;
use crate::domain::feature::{Feature, FeatureKind};
use crate::domain::manifest::{
    Catalogue, FeatureEntry, HeldEntry, PlanEntry, ProductEntry, TermsEntry,
};
use crate::domain::plan::{Plan, PlanEntitlement, PlanStatus};
use crate::domain::{DimensionKey, FeatureId, PlanId, ProductId};
use crate::store::engine::sql::{self, Connection};
use crate::store::{During, StoreError};

/// Exports the catalogue so that it can be applied elsewhere: every table is there, and dimensions that are gone from
/// their listing are not, since no other import would have them.
pub(crate) fn export_in(connection: &Connection) -> Result<Catalogue, StoreError> {
    let mut catalogue = Catalogue::default();
    for id in ids(connection, "SELECT id FROM products ORDER BY id")? {
        let id = ProductId::new(id);
        let Some(product) = product_in(connection, &id)? else { continue };
        let listed = product.dimensions.into_iter().filter(|it| it.removed_at.is_none());
        let entry = ProductEntry {
            entity_id: product.entity_id,
            usage_plan: product.usage_plan_id,
            plans: Some(listed.filter_map(|it| Some((it.key, it.plan_id?))).collect()),
        };
        catalogue.products.insert(id, entry);
    }
    let gone = removed_dimensions_in(connection)?;
    for id in ids(connection, "SELECT id FROM features ORDER BY id")? {
        let Some(feature) = feature_in(connection, &FeatureId::new(id))? else { continue };
        let Feature { id, name, kind, unit, dimensions, when_stale } = feature;
        let listed = dimensions.into_iter().filter(|link| !gone.contains(link));
        let dimensions = (kind == FeatureKind::Metered).then(|| listed.collect());
        let when_stale = Some(when_stale);
        catalogue.features.insert(id, FeatureEntry { name, kind, unit, when_stale, dimensions });
    }
    for id in ids(connection, "SELECT id FROM plans ORDER BY id")? {
        let Some(plan) = plan_in(connection, &PlanId::new(id))? else { continue };
        let held = held_in(connection, &plan.id)?;
        catalogue.plans.insert(plan.id.clone(), PlanEntry { held, ..plan_entry(plan) });
    }
    Ok(catalogue)
}

fn plan_entry(plan: Plan) -> PlanEntry {
    let mut entry = PlanEntry {
        name: plan.name,
        product: plan.product_id,
        status: plan.status,
        entitlements: Some(listed(&plan.entitlements)),
        draft: plan.draft.map(|draft| listed(&draft.entitlements)),
        held: BTreeMap::new(),
    };
    if plan.status == PlanStatus::Archived && plan.version.is_none() {
        // What was archived before anybody could have it grants nothing yet.
        entry.draft = entry.entitlements.take();
    }
    entry
}

/// Exports the versions that customers of a plan are held to.
pub(crate) fn held_in(
    connection: &Connection,
    id: &PlanId,
) -> Result<BTreeMap<i64, HeldEntry>, StoreError> {
    let held: Vec<(i64, i64)> = connection
        .prepare_cached(
            "SELECT plan_version, count(*) FROM subscriptions
             WHERE plan_id = ?1 AND plan_version IS NOT NULL AND ended_at_ms IS NULL AND status <> 'failed'
             GROUP BY plan_version",
        )
        .and_then(|mut select| {
            select.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .during("find who is held to a plan's versions")?;
    let entry = |(version, subscriptions)| {
        let entitlements = listed(&entitlements_in(connection, id, version)?);
        Ok((version, HeldEntry { subscriptions, entitlements }))
    };
    held.into_iter().map(entry).collect()
}

pub(crate) fn listed(entitlements: &[PlanEntitlement]) -> BTreeMap<FeatureId, TermsEntry> {
    entitlements.iter().map(|it| (it.feature_id.clone(), TermsEntry(it.terms.clone()))).collect()
}

/// Returns the dimensions that are gone from their listing.
pub(crate) fn removed_dimensions_in(
    connection: &Connection,
) -> Result<BTreeSet<(ProductId, DimensionKey)>, StoreError> {
    dimension_keys_in(
        connection,
        "SELECT product_id, key FROM dimensions WHERE removed_at_ms IS NOT NULL",
    )
    .during("find dimensions that are gone")
}

/// Returns the dimensions whose product and key a statement selects.
pub(super) fn dimension_keys_in<C: FromIterator<(ProductId, DimensionKey)>>(
    connection: &Connection,
    select: &'static str,
) -> sql::Result<C> {
    let mut select = connection.prepare_cached(select)?;
    let dimensions = select.query_map([], |row| {
        let product = ProductId::new(row.get::<_, String>(0)?);
        Ok((product, DimensionKey::new(row.get::<_, String>(1)?)))
    })?;
    dimensions.collect()
}

fn ids(connection: &Connection, statement: &'static str) -> Result<Vec<String>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .during("list the catalogue")
}
