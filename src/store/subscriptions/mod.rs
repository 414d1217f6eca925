//! Subscriptions: what a customer holds, at AWS or directly, and what its plans grant of a feature.
//!
//! It imports the catalog and the rooms below it.
//!
//! - A licence has at most one live subscription for each of its dimensions.
//! - A direct subscription, one that the seller sold, ends at its date without AWS.

mod by_agreement;
mod by_license;
pub(super) mod direct;
mod first_begun;
pub(super) mod grants;
pub(super) mod holdings;
pub(super) mod over_time;
pub(super) mod past_agreement_end;
pub(super) mod rows;
