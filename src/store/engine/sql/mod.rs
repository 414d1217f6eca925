//! The seam between the store's verbs and its database: one SQL text, in words that every engine here speaks.
//!
//! Verbs see a [`Connection`], its [`Statement`]s and their [`Row`]s, in the shape of `rusqlite`, and never learn which
//! engine answers. Values are those of `rusqlite` too: integers, text, bytes and null are all that the schema holds.
//! Parameters are `?1` or `:name`.

mod error;
mod params;
mod rows;
mod statement;
mod transaction;

pub(crate) use error::{Error, ErrorKind, OptionalExtension};
pub(crate) use params::Params;
pub(crate) use rows::{Row, Rows};
pub(crate) use rusqlite::types::{FromSql, ToSql, Value};
pub(crate) use rusqlite::{named_params, params};
pub(crate) use statement::Statement;
pub(crate) use transaction::Transaction;

/// The result of something that a database was asked.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A connection to a database.
#[derive(Debug)]
pub(crate) struct Connection(rusqlite::Connection);

impl Connection {
    /// Makes a connection of SQLite's.
    pub(crate) const fn sqlite(connection: rusqlite::Connection) -> Self {
        Self(connection)
    }

    /// Returns SQLite's connection.
    pub(crate) const fn as_sqlite(&self) -> &rusqlite::Connection {
        &self.0
    }

    /// Returns the number of rows that it has changed since it was opened.
    pub(crate) fn total_changes(&self) -> u64 {
        self.0.total_changes()
    }

    /// Closes the connection; a failure that dropping it would hide is told.
    pub(crate) fn close(self) -> Result<()> {
        self.0.close().map_err(|(_, error)| error.into())
    }

    /// Prepares a statement, or takes it as it was prepared before.
    pub(crate) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        Ok(Statement::sqlite(self.0.prepare_cached(sql)?))
    }

    /// Runs a statement once, and returns the number of rows that it changed.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.prepare_cached(sql)?.execute(params)
    }

    /// Runs statements without parameters.
    pub(crate) fn execute_batch(&self, sql: &str) -> Result<()> {
        Ok(self.0.execute_batch(sql)?)
    }

    /// Asks for one row.
    pub(crate) fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.prepare_cached(sql)?.query_row(params, read)
    }
}
