//! A database on a PostgreSQL server: its schema, and the notes of what a transaction changed.
//!
//! Every transaction that writes takes its turn by one row's lock, so that a verb may read, decide and write as if it
//! were alone, and the outbox is numbered in the order of commits.

pub(in crate::store) mod facts;
pub(super) mod notes;
pub(super) mod schema;
pub(in crate::store) mod turn_changes;
pub(in crate::store) mod workers;
