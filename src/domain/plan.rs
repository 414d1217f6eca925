//! Products, plans and features: what the seller's catalogue consists of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::quantity::as_number;
use super::{
    ClockHour, DimensionKey, EntityId, FeatureId, PlanId, ProductCode, ProductId, Quantity, Source,
};

/// A priced unit of a product, as the catalog describes it and as it was mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dimension {
    /// Its key, which entitlements and metering name.
    pub key: DimensionKey,
    /// Its name.
    pub name: String,
    /// What one of it is.
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
    /// Whether it is sold in contracts.
    pub fn is_entitled(&self) -> bool {
        self.types.iter().any(|word| word == "Entitled")
    }

    /// Whether it is billed by usage.
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
    /// From which hour on its legacy buyers are metered by licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licensed_from: Option<ClockHour>,
    /// Its dimensions.
    pub dimensions: Vec<Dimension>,
    /// Its plans.
    pub plans: Vec<Plan>,
    /// When it was imported.
    pub imported_at: Timestamp,
    /// When it was last compared with the listing.
    pub synced_at: Timestamp,
    /// What AWS's answers would end, and what is held back until a person lets it go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_endings: Vec<HeldEndings>,
}

/// What AWS's answers would end of a product: too much at once to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldEndings {
    /// `subscriptions` that AWS lists no more, or the `dimensions` of its listing.
    pub what: &'static str,
    /// Since when they are held back.
    pub since: Timestamp,
    /// How many AWS lists no more.
    pub unlisted: u64,
    /// How many there are, those included.
    pub live: u64,
    /// How many would have ended without a question.
    pub allowed: u64,
}

impl HeldEndings {
    /// What has happened to which product, and what to do.
    pub fn problem(&self, product: &ProductId) -> String {
        let Self { what, since, unlisted, live, .. } = self;
        format!(
            "AWS lists {unlisted} of {live} {what} of product {product} no more, which is more than is believed at once: nothing of that has ended since {since}. If it is right, `marketd product confirm-endings {product}` lets it end; what AWS lists again goes on by itself"
        )
    }
}

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
    /// Whether AWS sells it.
    pub source: Source,
    /// As what AWS sells it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aws: Vec<SoldAs>,
    /// Whether customers may have it.
    pub status: PlanStatus,
    /// The version that is published; none while none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// AWS owns the price; there is none here.
    pub pricing: &'static str,
    /// What it grants; while it was never published, what it will grant.
    pub entitlements: Vec<PlanEntitlement>,
    /// What was changed and is not published yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<PlanDraft>,
}

impl Plan {
    /// What the newest version grants, published or not.
    pub fn newest(&self) -> &[PlanEntitlement] {
        self.draft.as_ref().map_or(&self.entitlements, |draft| &draft.entitlements)
    }
}

/// What stands for a plan in a listing.
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

/// A published plan as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlanDraft {
    /// Its version.
    pub version: i64,
    /// What it will grant.
    pub entitlements: Vec<PlanEntitlement>,
}

/// Where a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    /// Not for customers yet.
    Draft,
    /// For customers.
    Published,
    /// For those who have it.
    Archived,
}

/// Whom a new version of a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everybody on the plan.
    #[default]
    All,
    /// Those who come to the plan from now on; the others keep what they have.
    New,
}

/// What a plan grants of a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanEntitlement {
    /// The feature.
    pub feature_id: FeatureId,
    /// How much.
    #[serde(flatten)]
    pub terms: EntitlementTerms,
}

/// How much of a feature a plan grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, from = "super::terms::SaidTerms")]
pub struct EntitlementTerms {
    /// The limit of a numeric or metered feature, which has this or `unlimited`. Null, if it is said, says that
    /// there is none.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub limit: Option<Quantity>,
    /// Whether there is no limit at all.
    pub unlimited: bool,
    /// Whether the limit warns instead of denying.
    pub soft: bool,
    /// Whether the limit counts once for each unit bought.
    pub per_unit: bool,
    /// When usage is counted from zero again; never if none.
    pub reset: Option<ResetPeriod>,
    /// What the periods start from.
    pub anchor: Anchor,
    /// Which usage is billed to the feature's dimension.
    pub bill: Bill,
}

impl EntitlementTerms {
    /// Whether nobody is ever denied for having used too much: there is no limit, or going beyond it is what the
    /// plan warns of or bills.
    pub fn never_denies(&self) -> bool {
        self.is_unlimited() || self.soft || self.bill == Bill::Overage
    }

    /// The limit of somebody who bought so many units: as it stands, or that for each of them.
    pub fn limit_for(&self, units: Option<Quantity>) -> Option<Quantity> {
        let limit = self.limit?;
        match units.filter(|_| self.per_unit) {
            Some(units) => Some(limit.times(units)),
            None => Some(limit),
        }
    }

    /// Whether there is no limit.
    pub const fn is_unlimited(&self) -> bool {
        self.unlimited || self.limit.is_none()
    }
}

/// When usage is counted from zero again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetPeriod {
    /// Every hour.
    Hour,
    /// Every day.
    Day,
    /// Every week, from Monday.
    Week,
    /// Every month.
    Month,
    /// Every year.
    Year,
}

/// What a reset period starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The calendar, in UTC.
    #[default]
    Calendar,
    /// The subscription's start.
    Subscription,
}

/// Which usage of a metered feature is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bill {
    /// All of it.
    #[default]
    All,
    /// What is beyond the limit.
    Overage,
    /// None of it.
    None,
}

/// Something that the application gates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Feature {
    /// Its id.
    pub id: FeatureId,
    /// Its name.
    pub name: String,
    /// What kind it is.
    #[serde(rename = "type")]
    pub kind: FeatureKind,
    /// What one of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The metered dimension that its usage is billed to, product by product.
    pub dimensions: BTreeMap<ProductId, DimensionKey>,
    /// What is answered while AWS could not be asked for long.
    pub when_stale: WhenStale,
}

/// What is answered about a plan bought on AWS while AWS could not be asked for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenStale {
    /// What was true when AWS was last asked.
    #[default]
    Allow,
    /// No.
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

/// The words by which the database and the API write an enum, taken from its serialization.
pub trait Word: Serialize + for<'de> Deserialize<'de> {
    /// The word.
    fn word(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(word)) => word,
            _ => String::new(),
        }
    }

    /// The value that a word names.
    fn from_word(word: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
    }
}

impl Word for ResetPeriod {}
impl Word for Anchor {}
impl Word for Bill {}
impl Word for FeatureKind {}
impl Word for PlanStatus {}
impl Word for Audience {}
impl Word for WhenStale {}
