//! Staying in step with listings.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::brakes::{BrakeKind, brake_in, hold_in, release_in};
use super::manifest_export::dimension_keys_in;
use super::products::{Listing, product_of_entity, write_dimensions};
use super::sellers::note_owner_in;
use crate::domain::event::EventType;
use crate::domain::event::data::ProductSynced;
use crate::domain::product::{Dimension, Product};
use crate::domain::reconciliation::Unlisted;
use crate::domain::{DimensionKey, EntityId, ProductId};
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// For how long a person's word lets a listing's dimensions go.
const CONFIRMED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The differences between a listing and its import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProductChanges {
    /// Dimensions that are new.
    pub added: Vec<Dimension>,
    /// Dimensions that are described otherwise.
    pub changed: Vec<Dimension>,
    /// Dimensions that are gone.
    pub removed: Vec<Dimension>,
}

/// The result of comparing a product with its listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Synced {
    /// This was taken over.
    Done(ProductChanges),
    /// This would leave nothing of what was imported: it waits until a person lets it go.
    Held(ProductChanges),
}

impl Store {
    /// Takes over what changed in a listing; none if it was never imported.
    pub async fn sync_product(
        &self,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Option<Synced>, StoreError> {
        let changes = self
            .write(move |connection| {
                let Some(product) = product_of_entity(connection, &listing.entity_id)? else {
                    return Ok::<_, StoreError>(None);
                };
                let changes = compare(&product, &listing);
                let held = hold_dimensions_in(connection, &product, &changes, now)?;
                if held {
                    // Compared, and left as it is.
                    mark_synced_in(connection, &product.id, now)?;
                    return Ok(Some(Synced::Held(changes)));
                }
                write_dimensions(connection, &product.id, &listing.dimensions, now)?;
                connection
                    .prepare_cached(
                        "UPDATE products SET title = ?2, visibility = ?3, document = ?4, synced_at_ms = ?5
                         WHERE id = ?1",
                    )
                    .and_then(|mut update| {
                        update.post((
                            product.id.as_str(),
                            &listing.title,
                            &listing.visibility,
                            listing.document.to_string(),
                            millis(now),
                        ))
                    })
                    .during("sync a product")?;
                note_owner_in(connection, &listing)?;
                if changes != ProductChanges::default() {
                    let data = ProductSynced {
                        product_id: &product.id,
                        added: &changes.added,
                        changed: &changes.changed,
                        removed: &changes.removed,
                    };
                    append_event_in(connection, EventType::ProductSynced, None, &data, now)?;
                }
                Ok(Some(Synced::Done(changes)))
            })
            .await?;
        Ok(changes)
    }

    /// Returns the listings of products that were last compared with them before a moment.
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

    /// Lists the metered dimensions that are gone from their listings and that usage is billed by still: a feature that plans
    /// of the product grant or that somebody can use, or records on the way.
    pub async fn lost_dimensions(&self) -> Result<Vec<(ProductId, DimensionKey)>, StoreError> {
        self.read(|connection| {
            dimension_keys_in(
                connection,
                "SELECT d.product_id, d.key FROM dimensions d
                 WHERE d.metered = 1 AND d.removed_at_ms IS NOT NULL
                 AND ((EXISTS (SELECT 1 FROM feature_dimensions f
                         WHERE f.product_id = d.product_id AND f.dimension = d.key)
                     AND EXISTS (SELECT 1 FROM subscriptions s
                         WHERE s.product_id = d.product_id AND s.ended_at_ms IS NULL))
                 OR EXISTS (SELECT 1 FROM feature_dimensions f
                     JOIN plan_entitlements e ON e.feature_id = f.feature_id AND e.bill <> 'none'
                     JOIN plans p ON p.id = e.plan_id AND p.source = 'aws' AND p.status <> 'archived'
                         AND e.version = coalesce(p.published_version, p.version)
                     WHERE f.product_id = d.product_id AND f.dimension = d.key AND p.product_id = d.product_id)
                 OR EXISTS (SELECT 1 FROM metering_records r WHERE r.state = 'open'
                     AND r.product_id = d.product_id AND r.dimension = d.key)
                 OR EXISTS (SELECT 1 FROM metering_records r WHERE r.state IN ('ready', 'sending')
                     AND r.product_id = d.product_id AND r.dimension = d.key))
                 ORDER BY d.product_id, d.key LIMIT 100",
            )
            .during("find dimensions that are gone")
        })
        .await
    }

    /// Lists the dimensions that are sold in contracts and are gone from their listings, with how many live subscriptions are
    /// on each.
    pub async fn lost_sold_dimensions(
        &self,
    ) -> Result<Vec<(ProductId, DimensionKey, u64)>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT product_id, key, held FROM (SELECT d.product_id, d.key,
                         (SELECT count(*) FROM subscriptions s WHERE s.product_id = d.product_id
                             AND s.dimension = d.key AND s.ended_at_ms IS NULL AND s.status <> 'failed') AS held
                         FROM dimensions d WHERE d.entitled = 1 AND d.removed_at_ms IS NOT NULL) AS gone
                     WHERE held > 0 ORDER BY product_id, key LIMIT 100",
                )
                .and_then(|mut select| {
                    select
                        .query_map([], |row| {
                            let product = ProductId::new(row.get::<_, String>(0)?);
                            let key = DimensionKey::new(row.get::<_, String>(1)?);
                            Ok((product, key, u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0)))
                        })?
                        .collect()
                })
                .during("find sold dimensions that are gone")
        })
        .await
    }

    /// Dimensions that are sold in contracts and mean no plan: whoever buys one has access to nothing.
    pub async fn unmapped_dimensions(&self) -> Result<Vec<(ProductId, DimensionKey)>, StoreError> {
        self.read(|connection| {
            dimension_keys_in(
                connection,
                "SELECT product_id, key FROM dimensions
                 WHERE entitled = 1 AND plan_id IS NULL AND removed_at_ms IS NULL
                 ORDER BY product_id, key LIMIT 100",
            )
            .during("find dimensions without a plan")
        })
        .await
    }
}

/// Holds an import back that would leave no dimension of those that were imported before; how many are gone.
pub(super) fn hold_import_in(
    connection: &Connection,
    product: &Product,
    listing: &Listing,
    now: Timestamp,
) -> Result<Option<usize>, StoreError> {
    let changes = compare(product, listing);
    let held = hold_dimensions_in(connection, product, &changes, now)?;
    Ok(held.then_some(changes.removed.len()))
}

/// Holds a comparison back that leaves no dimension of those that were imported: listings do not lose all at once, but
/// documents may come without them.
fn hold_dimensions_in(
    connection: &Connection,
    product: &Product,
    changes: &ProductChanges,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let held = product.dimensions.iter().filter(|dimension| dimension.removed_at.is_none()).count();
    let all_gone = held > 0 && changes.removed.len() == held;
    let brake = brake_in(connection, &product.id, BrakeKind::Dimensions)?;
    if all_gone && !brake.is_confirmed(now.saturating_sub(CONFIRMED_FOR).unwrap_or(now)) {
        let count = u64::try_from(held).unwrap_or(u64::MAX);
        let seen = Unlisted { live: count, unlisted: count, ended: 0 };
        hold_in(connection, &product.id, BrakeKind::Dimensions, seen, count - 1, now)?;
        return Ok(true);
    }
    if !all_gone {
        release_in(connection, &product.id, BrakeKind::Dimensions, None)?;
    }
    Ok(false)
}

fn mark_synced_in(
    connection: &Connection,
    product: &ProductId,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE products SET synced_at_ms = ?2 WHERE id = ?1")
        .and_then(|mut update| update.execute((product.as_str(), millis(now))))
        .during("sync a product")?;
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
