//! The foundation of every room: columns and conditions, pages, the outbox of events, aliases of customers, what was
//! pruned, who acted.
//!
//! It imports the engine alone.
//!
//! - An event is appended in the transaction that it tells of, so that it is told if and only if that is true.
//! - A time is kept in milliseconds, a quantity in millionths of a unit.

pub(super) mod activity;
pub(super) mod aliases;
pub(super) mod batch;
pub(super) mod by_time;
pub(super) mod columns;
pub(super) mod event_history;
pub(super) mod feed;
pub(super) mod filter;
pub(super) mod integration;
pub(super) mod listing;
pub(super) mod outbox;
pub(super) mod page;
pub(super) mod pruned;
pub(super) mod tally;
pub(super) mod webhook_deliveries;
pub(super) mod webhook_lanes;
pub(super) mod webhook_place;
pub(super) mod webhook_state;
