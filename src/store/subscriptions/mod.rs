//! Subscriptions: what a customer holds, at AWS or directly, and what its plans grant of a feature.
//!
//! It imports the catalog and the rooms below it.
//!
//! - A dimension of a licence is one subscription that is live, at most.
//! - A subscription of the seller's own ends at its date without AWS.

pub(super) mod direct;
pub(super) mod grants;
pub(super) mod holdings;
pub(super) mod overdue;
pub(super) mod rows;
