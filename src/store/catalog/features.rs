//! Features and the dimensions that they are billed to.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::event::EventType;
use crate::domain::event::data::FeatureUpdated;
use crate::domain::feature::{Feature, FeatureKind, WhenStale};
use crate::domain::word::Word;
use crate::domain::{DimensionKey, FeatureId, ProductId, UnfitId};
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::base::page::Page;
use crate::store::engine::sql::{Connection, OptionalExtension, named_params};
use crate::store::{During, Store, StoreError};

/// A change of a feature; a field that is left out stays as it is.
#[derive(Clone, Debug)]
pub struct FeatureChange {
    /// Its id.
    pub id: FeatureId,
    /// Its name.
    pub name: String,
    /// The kind of feature.
    pub kind: FeatureKind,
    /// The name of one unit; none if empty.
    pub unit: Option<String>,
    /// The metered dimensions that its usage is billed to; they replace those that it has.
    pub dimensions: Option<BTreeMap<ProductId, DimensionKey>>,
    /// The answer where AWS has not been asked for too long.
    pub when_stale: Option<WhenStale>,
}

impl From<Feature> for FeatureChange {
    fn from(feature: Feature) -> Self {
        let Feature { id, name, kind, unit, dimensions, when_stale } = feature;
        let (dimensions, when_stale) = (Some(dimensions), Some(when_stale));
        Self { id, name, kind, unit, dimensions, when_stale }
    }
}

/// The reason why a feature could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The product has no such metered dimension.
    #[error("product {product} has no metered dimension {dimension}")]
    UnknownDimension {
        /// The product.
        product: ProductId,
        /// The dimension.
        dimension: DimensionKey,
    },
    /// Only usage is billed.
    #[error(
        "dimensions: feature {id} is {kind}, and only the usage of a metered feature is billed to a dimension"
    )]
    NotMetered {
        /// The feature.
        id: FeatureId,
        /// Its type.
        kind: String,
    },
    /// A new feature cannot have this id.
    #[error(transparent)]
    Unfit(#[from] UnfitId),
    /// Nothing of it is counted.
    #[error("unit: feature {0} is boolean: a plan has it or not, and there is nothing to count")]
    NothingToCount(FeatureId),
    /// Usage was counted by its kind.
    #[error("feature {id} is {held}; a feature keeps its type, make another one")]
    OtherType {
        /// The feature.
        id: FeatureId,
        /// Its type.
        held: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes or changes a feature.
    pub async fn put_feature(
        &self,
        change: impl Into<FeatureChange>,
        now: Timestamp,
    ) -> Result<Feature, FeatureError> {
        let change = change.into();
        self.write(move |connection| put_feature_in(connection, &change, now)).await
    }

    /// Features, in the order of their ids.
    pub async fn features(&self, page: Page) -> Result<Vec<Feature>, StoreError> {
        self.read(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached("SELECT id FROM features WHERE id > ?1 ORDER BY id LIMIT ?2")
                .and_then(|mut select| {
                    let after = page.after.unwrap_or_default();
                    select.query_map((after, page.limit), |row| row.get(0))?.collect()
                })
                .during("list features")?;
            let mut features = Vec::with_capacity(ids.len());
            for id in ids {
                features.extend(feature_in(connection, &FeatureId::new(id))?);
            }
            Ok(features)
        })
        .await
    }

    /// Returns one feature.
    pub async fn feature(&self, id: FeatureId) -> Result<Option<Feature>, StoreError> {
        self.read(move |connection| feature_in(connection, &id)).await
    }
}

/// Makes or changes a feature.
pub(crate) fn put_feature_in(
    connection: &Connection,
    change: &FeatureChange,
    now: Timestamp,
) -> Result<Feature, FeatureError> {
    let held = feature_in(connection, &change.id)?;
    let FeatureChange { id, name, kind, unit, dimensions, when_stale } = change.clone();
    if held.is_none() {
        id.check_new()?;
    }
    if let Some(held) = held.as_ref().filter(|held| held.kind != kind) {
        return Err(FeatureError::OtherType { id, held: held.kind.word() });
    }
    let (held_unit, held_dimensions, held_stale) =
        held.map_or_else(Default::default, |it| (it.unit, it.dimensions, it.when_stale));
    let feature = Feature {
        unit: unit.or_else(|| held_unit.clone()).filter(|unit| !unit.is_empty()),
        when_stale: when_stale.unwrap_or(held_stale),
        dimensions: dimensions.unwrap_or_else(|| held_dimensions.clone()),
        id,
        name,
        kind,
    };
    if kind == FeatureKind::Boolean && feature.unit.is_some() && feature.unit != held_unit {
        return Err(FeatureError::NothingToCount(feature.id));
    }
    if kind != FeatureKind::Metered && !feature.dimensions.is_empty() {
        let (id, kind) = (feature.id, kind.word());
        return Err(FeatureError::NotMetered { id, kind });
    }
    for (product, dimension) in &feature.dimensions {
        if held_dimensions.get(product) == Some(dimension) {
            continue;
        }
        let known = connection
            .prepare_cached(
                "SELECT 1 FROM dimensions WHERE product_id = ?1 AND key = ?2 AND metered = 1",
            )
            .and_then(|mut select| select.exists((product.as_str(), dimension.as_str())))
            .during("look up a dimension")?;
        if !known {
            return Err(FeatureError::UnknownDimension {
                product: product.clone(),
                dimension: dimension.clone(),
            });
        }
    }
    write_feature_in(connection, &feature, now)?;
    Ok(feature)
}

/// Writes a feature whole. One that changes is told of, with the dimensions that it bills no more: usage of it is
/// not billed there from now on.
pub(crate) fn write_feature_in(
    connection: &Connection,
    feature: &Feature,
    now: Timestamp,
) -> Result<(), StoreError> {
    let held = feature_in(connection, &feature.id)?;
    if held.as_ref() == Some(feature) {
        return Ok(());
    }
    let held_dimensions = held.map(|held| held.dimensions).unwrap_or_default();
    let unlinked = held_dimensions
        .iter()
        .filter(|(product, dimension)| feature.dimensions.get(*product) != Some(*dimension))
        .collect();
    append_event_in(
        connection,
        EventType::FeatureUpdated,
        None,
        &FeatureUpdated { feature, unlinked },
        now,
    )?;
    connection
        .prepare_cached(
            "INSERT INTO features (id, name, type, unit, when_stale, updated_at_ms)
             VALUES (:id, :name, :type, :unit, :when_stale, :now)
             ON CONFLICT (id) DO UPDATE SET name = :name, unit = :unit, when_stale = :when_stale,
                 updated_at_ms = :now",
        )
        .and_then(|mut upsert| {
            upsert.post(named_params! {
                ":id": feature.id.as_str(), ":name": feature.name, ":type": feature.kind.word(),
                ":unit": feature.unit, ":when_stale": feature.when_stale.word(), ":now": millis(now),
            })
        })
        .during("write a feature")?;
    connection
        .prepare_cached("DELETE FROM feature_dimensions WHERE feature_id = ?1")
        .and_then(|mut delete| delete.post([feature.id.as_str()]))
        .during("write a feature's dimensions")?;
    for (product, dimension) in &feature.dimensions {
        connection
            .prepare_cached(
                "INSERT INTO feature_dimensions (feature_id, product_id, dimension) VALUES (?1, ?2, ?3)",
            )
            .and_then(|mut insert| {
                insert.post((feature.id.as_str(), product.as_str(), dimension.as_str()))
            })
            .during("write a feature's dimensions")?;
    }
    Ok(())
}

pub(crate) fn feature_in(
    connection: &Connection,
    id: &FeatureId,
) -> Result<Option<Feature>, StoreError> {
    let found: Option<(String, String, Option<String>, String)> = connection
        .prepare_cached("SELECT name, type, unit, when_stale FROM features WHERE id = ?1")
        .and_then(|mut select| {
            select
                .query_row([id.as_str()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()
        })
        .during("read a feature")?;
    let Some((name, kind, unit, when_stale)) = found else {
        return Ok(None);
    };
    let dimensions: BTreeMap<ProductId, DimensionKey> = connection
        .prepare_cached(
            "SELECT product_id, dimension FROM feature_dimensions WHERE feature_id = ?1",
        )
        .and_then(|mut select| {
            select
                .query_map([id.as_str()], |row| {
                    let product = ProductId::new(row.get::<_, String>(0)?);
                    Ok((product, DimensionKey::new(row.get::<_, String>(1)?)))
                })?
                .collect()
        })
        .during("read a feature's dimensions")?;
    // The schema admits only these words.
    let kind = FeatureKind::from_word(&kind).unwrap_or(FeatureKind::Boolean);
    let when_stale = WhenStale::from_word(&when_stale).unwrap_or_default();
    Ok(Some(Feature { id: id.clone(), name, kind, unit, dimensions, when_stale }))
}
