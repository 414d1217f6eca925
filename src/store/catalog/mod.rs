//! The catalog: products as AWS lists them, plans and their versions, features, and the manifest that sets them.
//!
//! It imports facts and the rooms below them.
//!
//! - A version of a plan never changes once it is published; a change makes the next one.
//! - A dimension that AWS lists no more is kept and marked as removed.

pub(super) mod brakes;
pub(super) mod entitlements;
pub(super) mod features;
pub(super) mod found;
pub(super) mod import;
pub(super) mod manifest;
pub(super) mod manifest_export;
pub(super) mod manifest_outcome;
pub(super) mod manifest_plan;
pub(super) mod plan_rows;
pub(super) mod plans;
pub(super) mod products;
pub(super) mod publications;
pub(super) mod publish;
pub(super) mod regrant;
pub(super) mod remove_product;
pub(super) mod sellers;
pub(super) mod sync;
pub(super) mod unbilled;
pub(super) mod versions;
