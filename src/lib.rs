//! marketd keeps a software seller's customers, plans and bills in step with AWS Marketplace.
//!
//! The folders are the rooms of one flow: [`intake`] receives notifications, [`reconcile`] asks AWS
//! what is true, [`store`] holds it, [`metering`] bills usage, [`http`] answers the seller's
//! application. [`domain`] holds the rules and does no I/O. `docs/architecture.md` is the map.

pub mod access;
pub mod aws;
#[cfg(test)]
mod captured_log;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod csv;
pub mod daemon;
pub mod diagnosis;
pub mod domain;
pub mod events;
pub mod health;
pub mod http;
pub mod intake;
pub mod metering;
mod metric_families;
pub mod outgoing;
pub mod reconcile;
pub mod retention;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod settings;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod turns;
pub mod webhook;
