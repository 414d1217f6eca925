//! Plans, their versions and what they grant.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::terms::EntitlementTerms;
use super::word::Word;
use super::{DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, Source};

/// A bundle of plan entitlements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// Its name.
    pub name: String,
    /// The product that it is sold with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
    /// The source: AWS Marketplace, or the seller's own site.
    pub source: Source,
    /// The listings and dimensions as which AWS sells it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aws: Vec<SoldAs>,
    /// Its status, which says whether customers may have it.
    pub status: PlanStatus,
    /// The version that is published; none while none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Who published that version, and when; none if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publication: Option<Publication>,
    /// AWS owns the price; there is none here.
    pub pricing: &'static str,
    /// The features that it grants; while it was never published, those that it will grant.
    pub entitlements: Vec<PlanEntitlement>,
    /// The changes that are not published yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<PlanDraft>,
}

impl Plan {
    /// Returns what the newest version grants, published or not.
    pub fn newest(&self) -> &[PlanEntitlement] {
        self.draft.as_ref().map_or(&self.entitlements, |draft| &draft.entitlements)
    }
}

/// The publication of a version of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PlanPublication)]
pub struct Publication {
    /// The time.
    pub at: Timestamp,
    /// The name of the token by which it was published; `local` where the API has none.
    pub by: String,
}

/// The listing, and the dimension in it, that stand for a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SoldAs {
    /// The listing.
    pub entity_id: EntityId,
    /// Its product code.
    pub product_code: ProductCode,
    /// The dimension that means the plan; none where those who pay as they go have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimension: Option<DimensionKey>,
    /// Since when the dimension is gone from the listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
}

/// The draft of a published plan: the plan as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlanDraft {
    /// Its version.
    pub version: i64,
    /// The features that it will grant.
    pub entitlements: Vec<PlanEntitlement>,
}

/// The status of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    /// Not for customers yet.
    Draft,
    /// For customers.
    Published,
    /// For the customers who have it.
    Archived,
}

/// The customers whom a new version of a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everybody on the plan.
    #[default]
    All,
    /// Customers who come to the plan from now on; the others keep what they have.
    New,
}

/// A plan's grant of a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanEntitlement {
    /// The feature.
    pub feature_id: FeatureId,
    /// The terms of the grant.
    #[serde(flatten)]
    pub terms: EntitlementTerms,
}

impl Word for PlanStatus {}
impl Word for Audience {}
