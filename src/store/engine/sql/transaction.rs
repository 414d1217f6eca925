//! Transactions.

use std::ops::Deref;

use super::{Connection, Result};

/// A transaction, undone unless it is committed.
pub(crate) struct Transaction<'c> {
    connection: &'c Connection,
    is_open: bool,
}

impl<'c> Transaction<'c> {
    /// Begins a transaction, once nobody else writes.
    pub(crate) fn begin(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self { connection, is_open: true })
    }

    /// Begins a transaction that only reads: all of it sees the database of one moment.
    pub(crate) fn of_reads(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, is_open: true })
    }

    /// Commits; what cannot be committed is undone.
    pub(crate) fn commit(mut self) -> Result<()> {
        let committed = self.connection.execute_batch("COMMIT");
        self.is_open = committed.is_err();
        committed
    }

    /// Undoes it.
    pub(crate) fn rollback(mut self) -> Result<()> {
        self.is_open = false;
        self.connection.execute_batch("ROLLBACK")
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Some failures have undone it already.
        if self.is_open && !self.connection.as_sqlite().is_autocommit() {
            drop(self.connection.execute_batch("ROLLBACK"));
        }
    }
}
