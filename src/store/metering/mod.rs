//! Metering: usage events, which record bears them, closing hours, freezing them, and writing down what AWS answered.
//!
//! It imports subscriptions and the rooms below them.
//!
//! - Every unit that was acknowledged is in one record or included in a plan; the sums add up at each commit.
//! - A record is frozen before it is sent, and never changes after that; triggers guard it.
//! - An attempt is noted before the call. An answer that was lost is unknown, not no.

pub(super) mod ahead;
mod append;
mod assign;
pub(super) mod attribution;
pub(super) mod balance;
pub(super) mod billable;
mod billed;
pub(super) mod catalogue_view;
pub(super) mod close;
pub(super) mod deadlines;
pub(super) mod decisions;
pub(super) mod first_hour;
pub(super) mod freeze;
pub(super) mod hour_states;
pub(super) mod ingest;
pub(super) mod ledger_view;
pub(super) mod license_migration;
pub(super) mod merge;
pub(super) mod month_part;
pub(super) mod open_records;
pub(super) mod parking;
pub(super) mod placement;
pub(super) mod policy;
pub(super) mod rating;
pub(super) mod record_rows;
pub(super) mod record_usage;
pub(super) mod records;
pub(super) mod remembered;
pub(super) mod repetition;
pub(super) mod report;
pub(super) mod requeue;
pub(super) mod rerate;
pub(super) mod resolve;
pub(super) mod resolve_all;
pub(super) mod restore;
pub(super) mod roll_forward;
pub(super) mod send;
pub(super) mod settle;
pub(super) mod side_records;
pub(super) mod slots;
pub(super) mod standstills;
pub(super) mod unknown_hours;
pub(super) mod usage_events;
pub(super) mod usage_series;
pub(super) mod usage_sums;
pub(super) mod waiting;
pub(super) mod zero_usage;
