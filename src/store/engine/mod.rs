//! The engine: SQLite or PostgreSQL behind one writer thread, read connections, the schema, backups, and who else is there.
//!
//! It knows bytes, rows and transactions, and nothing of billing. It imports no other room.
//!
//! - One thread writes; many small writes share a transaction, and each is undone by itself if it fails.
//! - A write's answer is given after its commit: `Ok` means that it is on disk.
//! - The watcher hears of a commit's changes before those who wrote are answered; those who wait for them are woken.
//! - Files and folders are the owner's alone.

pub(super) mod backup;
pub(super) mod changes;
pub(super) mod connection;
pub(super) mod error;
pub(super) mod fence;
pub(super) mod lock;
pub(super) mod locked;
pub(super) mod log_lines;
pub(super) mod membership;
pub(super) mod moving;
pub(super) mod noted;
mod other_writers;
mod pending;
pub(super) mod place;
pub(super) mod postgres;
pub(super) mod private_files;
pub(super) mod readers;
pub(super) mod secrets;
#[cfg(test)]
mod server_tests;
pub(super) mod sql;
pub(super) mod statements;
pub(super) mod trouble;
pub(super) mod wakeups;
pub(super) mod worker;
pub(super) mod writer;
