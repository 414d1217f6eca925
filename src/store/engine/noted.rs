//! What a transaction has changed, as far as somebody is told of it.

use std::collections::BTreeSet;

use super::log_lines::LogLines;
use super::wakeups::Woken;
use crate::domain::{CustomerId, FeatureId};

/// The changes of a commit.
#[derive(Debug, Default)]
pub struct Changes {
    /// Plans or features.
    pub catalogue: bool,
    /// These customers, their aliases or their subscriptions.
    pub customers: Vec<CustomerId>,
    /// Usage was counted.
    pub used: Vec<CountedUsage>,
}

/// Usage that was counted.
#[derive(Debug)]
pub struct CountedUsage {
    /// The customer.
    pub customer_id: CustomerId,
    /// Of which feature.
    pub feature_id: FeatureId,
    /// The product of what bears it; empty where nothing does.
    pub product: String,
    /// Under what it is held at AWS, as subscriptions name it; empty where nothing bears it.
    pub holder: String,
    /// From when on it counts, in milliseconds since 1970.
    pub from_ms: i64,
    /// The quantity in millionths; negative if it was taken back.
    pub millionths: i64,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        !self.catalogue && self.customers.is_empty() && self.used.is_empty()
    }
}

/// The changes of turns that other workers took.
#[derive(Debug, Default)]
pub(super) struct ByOthers {
    /// These customers, their aliases or their subscriptions.
    pub(super) changed: BTreeSet<CustomerId>,
    /// Usage of these customers was counted.
    pub(super) used: BTreeSet<CustomerId>,
    /// Plans or features.
    pub(super) catalogue: bool,
    /// Licences or agreements.
    pub(super) licenses: bool,
    pub(super) woken: Woken,
}

/// The notes of one transaction.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) changes: Changes,
    /// Licences or agreements; noted on a server alone, for other workers.
    pub(super) licenses: bool,
    pub(super) woken: Woken,
    pub(super) lines: LogLines,
}
