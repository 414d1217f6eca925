//! Reconciling: the situation of a buyer as it is known, and an observation of AWS applied to it in one write.
//!
//! It imports every other room.
//!
//! - What an observation changes is decided by `domain::reconciliation` alone.
//! - An answer of AWS that is older than the last one changes nothing.

mod apart;
pub(super) mod connect;
pub(super) mod identity;
pub(super) mod observation;
#[cfg(test)]
mod round_trip_tests;
pub(super) mod situation;
