//! Products as AWS lists them: dimensions, and what they were mapped to.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::plan::Plan;
use super::{ClockHour, DimensionKey, EntityId, PlanId, ProductCode, ProductId};

/// A priced unit of a product, as the catalog describes it and as it was mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dimension {
    /// Its key, which entitlements and metering name.
    pub key: DimensionKey,
    /// Its name.
    pub name: String,
    /// The unit in which it is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// AWS's words: `Entitled`, `Metered`, `ExternallyMetered`.
    pub types: Vec<String>,
    /// The plan that an entitlement to it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<PlanId>,
    /// Gone from the listing since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
}

impl Dimension {
    /// Reports whether it is sold in contracts.
    pub fn is_entitled(&self) -> bool {
        self.types.iter().any(|word| word == "Entitled")
    }

    /// Reports whether it is billed by usage.
    pub fn is_metered(&self) -> bool {
        self.types.iter().any(|word| word == "Metered" || word == "ExternallyMetered")
    }
}

/// An imported listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Product {
    /// Our id.
    pub id: ProductId,
    /// The catalog's id.
    pub entity_id: EntityId,
    /// The code in notifications, entitlements and legacy metering.
    pub product_code: ProductCode,
    /// The title.
    pub title: String,
    /// Draft, Limited, Public or Restricted.
    pub visibility: String,
    /// The plan of those who pay as they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_plan_id: Option<PlanId>,
    /// The hour from which on its legacy buyers are metered by licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licensed_from: Option<ClockHour>,
    /// Its dimensions.
    pub dimensions: Vec<Dimension>,
    /// Its plans.
    pub plans: Vec<Plan>,
    /// The time at which it was imported.
    pub imported_at: Timestamp,
    /// The time at which it was last compared with the listing.
    pub synced_at: Timestamp,
    /// Endings that follow from AWS's answers, and are held back until a person lets them go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_endings: Vec<HeldEndings>,
}

impl Product {
    /// Reports whether dimensions that were imported are gone from its listing.
    pub fn is_changed(&self) -> bool {
        self.dimensions.iter().any(|it| it.removed_at.is_some())
    }
}

/// Endings that follow from AWS's answers about a product: too many at once to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldEndings {
    /// `subscriptions` that AWS lists no more, or the `dimensions` of its listing.
    pub what: &'static str,
    /// Since when they are held back.
    pub since: Timestamp,
    /// The number that AWS lists no more.
    pub unlisted: u64,
    /// The number of all, those included.
    pub live: u64,
    /// The number that would have ended without a question.
    pub allowed: u64,
}

impl HeldEndings {
    /// Describes what has happened to which product, and what to do.
    pub fn problem(&self, product: &ProductId) -> String {
        let Self { what, since, unlisted, live, .. } = self;
        format!(
            "AWS lists {unlisted} of {live} {what} of product {product} no more, which is more than is believed at once: nothing of that has ended since {since}. If it is right, `marketd product confirm-endings {product}` lets it end; what AWS lists again goes on by itself"
        )
    }
}
