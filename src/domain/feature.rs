//! Features: what a plan grants and the application asks about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::word::Word;
use super::{DimensionKey, FeatureId, ProductId};

/// A feature that the application gates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Feature {
    /// Its id.
    pub id: FeatureId,
    /// Its name.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: FeatureKind,
    /// The unit in which it is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The metered dimension that its usage is billed to, product by product.
    pub dimensions: BTreeMap<ProductId, DimensionKey>,
    /// The answer while AWS could not be asked for long.
    pub when_stale: WhenStale,
}

/// The answer about a plan bought on AWS while AWS could not be asked for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenStale {
    /// The answer that was true when AWS was last asked.
    #[default]
    Allow,
    /// A refusal.
    Deny,
}

/// The kinds of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// Had or not had.
    Boolean,
    /// A configured limit.
    Numeric,
    /// Usage counted against a limit, and billed where it has a dimension.
    Metered,
}

impl Word for FeatureKind {}

impl Word for WhenStale {}
