//! Transactions.

use std::ops::Deref;

use super::connection::Connection;
use super::error::{Error, Result};

/// Begins a transaction that nobody else changes the schema beside. Whoever does is waited for, however long that takes, but
/// nobody who reads or writes: others would wait behind.
const ALONE: &str = "BEGIN; SET LOCAL lock_timeout = 0;
     SELECT pg_advisory_xact_lock(hashtext('marketd'), hashtext(current_schema()));
     SET LOCAL lock_timeout = '10s'";
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A transaction, undone unless it is committed.
pub(crate) struct Transaction<'c> {
    connection: &'c Connection,
    is_open: bool,
}

impl<'c> Transaction<'c> {
    /// Begins a transaction, once nobody else writes.
    pub(crate) fn begin(connection: &'c Connection) -> Result<Self> {
        match connection {
            Connection::Sqlite(file) => file.execute_batch("BEGIN IMMEDIATE")?,
            Connection::Postgres(session) => session.begin_turn()?,
            Connection::Strand(_) => return Err(Error::WithinStrand),
        }
        Ok(Self { connection, is_open: true })
    }

    /// Begins a transaction that may change the schema.
    pub(crate) fn of_schema(connection: &'c Connection) -> Result<Self> {
        match connection {
            Connection::Sqlite(file) => file.execute_batch("BEGIN IMMEDIATE")?,
            Connection::Postgres(session) => session.batch(ALONE)?,
            Connection::Strand(_) => return Err(Error::WithinStrand),
        }
        Ok(Self { connection, is_open: true })
    }

    /// Begins a transaction that only reads: all of it sees the database of one moment.
    pub(crate) fn of_reads(connection: &'c Connection) -> Result<Self> {
        match connection {
            Connection::Sqlite(file) => file.execute_batch("BEGIN")?,
            Connection::Postgres(session) => session.batch(SNAPSHOT)?,
            Connection::Strand(_) => return Err(Error::WithinStrand),
        }
        Ok(Self { connection, is_open: true })
    }

    /// Commits; what cannot be committed is undone.
    pub(crate) fn commit(mut self) -> Result<()> {
        let committed = match self.connection {
            Connection::Sqlite(file) => file.execute_batch("COMMIT").map_err(Into::into),
            Connection::Postgres(session) => session.commit(),
            Connection::Strand(_) => Err(Error::WithinStrand),
        };
        self.is_open = committed.is_err();
        committed
    }

    /// Undoes it.
    pub(crate) fn rollback(mut self) -> Result<()> {
        self.is_open = false;
        self.undo()
    }

    fn undo(&self) -> Result<()> {
        match self.connection {
            Connection::Sqlite(file) => Ok(file.execute_batch("ROLLBACK")?),
            Connection::Postgres(session) => session.rollback(),
            Connection::Strand(_) => Err(Error::WithinStrand),
        }
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
        let is_over = match self.connection {
            Connection::Sqlite(file) => file.is_autocommit(),
            Connection::Postgres(_) | Connection::Strand(_) => false,
        };
        if self.is_open && !is_over {
            drop(self.undo());
        }
    }
}
