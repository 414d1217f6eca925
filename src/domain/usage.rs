//! Usage as the application reports it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{CustomerId, DimensionKey, FeatureId, LicenseArn, ProductId, Quantity};

/// One usage event, well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent {
    /// The application's id of it: its idempotency key.
    pub id: String,
    /// Who used something.
    pub customer_id: CustomerId,
    /// What.
    pub subject: UsageSubject,
    /// How much.
    pub quantity: Quantity,
    /// When; the time of receipt if left out.
    pub timestamp: Option<Timestamp>,
    /// Under which licence, where there are several.
    pub license_arn: Option<LicenseArn>,
    /// How it splits on the buyer's bill.
    pub tags: BTreeMap<String, String>,
}

impl UsageEvent {
    /// The feature that was used, if it was named by that.
    pub const fn feature(&self) -> Option<&FeatureId> {
        match &self.subject {
            UsageSubject::Feature(feature) => Some(feature),
            UsageSubject::Dimension { .. } => None,
        }
    }
}

/// What was used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageSubject {
    /// A metered feature, which knows its dimensions.
    Feature(FeatureId),
    /// A dimension of a product.
    Dimension {
        /// The product.
        product_id: ProductId,
        /// The dimension.
        dimension: DimensionKey,
    },
}

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejection {
    /// The event.
    pub id: String,
    /// Why, as one word.
    pub code: &'static str,
    /// Why, for a person, and what to do.
    pub detail: String,
}

/// What became of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReceipt {
    /// Events that are on disk now.
    pub accepted: usize,
    /// Events that were before.
    pub duplicates: usize,
    /// Events that were not taken.
    pub rejected: Vec<Rejection>,
}
