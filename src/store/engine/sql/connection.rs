//! Connections.

use super::error::Result;
use super::params::Params;
use super::postgres::session::Session;
use super::rows::Row;
use super::statement::Statement;

/// A connection to a database.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
}

impl Connection {
    /// Returns the connection, made anew if it was lost.
    pub(crate) fn ready(self) -> Result<Self> {
        self.reconnect_if_lost()?;
        Ok(self)
    }

    /// Connects anew if the connection was lost.
    pub(crate) fn reconnect_if_lost(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.reconnect_if_lost(),
        }
    }

    /// Returns the number of the connection to the server, which counts how often it was made; 0 for a file.
    pub(crate) const fn number(&self) -> u64 {
        match self {
            Self::Sqlite(_) => 0,
            Self::Postgres(session) => session.number(),
        }
    }

    /// Returns the connection of SQLite's, if it is one.
    pub(crate) const fn as_sqlite(&self) -> Option<&rusqlite::Connection> {
        match self {
            Self::Sqlite(connection) => Some(connection),
            Self::Postgres(_) => None,
        }
    }

    /// Prepares a statement, or takes it as it was prepared before.
    pub(crate) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        Ok(match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection.prepare_cached(sql)?),
            Self::Postgres(session) => Statement::Postgres(session, session.prepare(sql)?),
        })
    }

    /// Reports whether each answer takes a way to a server and back.
    pub(crate) const fn is_remote(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Waits until what was posted is done; returns the first failure.
    pub(crate) fn settle(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.settle(),
        }
    }

    /// Asks ahead for what a statement is going to be asked for in this transaction, where there is a way to go. Not for
    /// tables that triggers write to.
    pub(crate) fn ask_ahead(&self, sql: &str, params: &impl Params) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.ask(&session.prepare(sql)?, params),
        }
    }

    /// Asks ahead for all that these pieces of work are going to read before they write, where there is a way to go: each
    /// is begun, and stops where it needs an answer that is not here. What all of them wait for is asked for together, and
    /// they begin again. They change nothing meanwhile, and must note nothing outside of the database before they write.
    pub(crate) fn rehearse<T, E>(
        &self,
        all: &[T],
        mut work: impl FnMut(&T) -> std::result::Result<(), E>,
    ) -> Result<()> {
        /// More than any work reads one after the other.
        const STEPS: usize = 100;
        let Self::Postgres(session) = self else { return Ok(()) };
        let mut waiting: Vec<&T> = all.iter().collect();
        for _ in 0..STEPS {
            waiting.retain(|it| session.rehearse(|| drop(work(it))));
            if waiting.is_empty() {
                break;
            }
            session.ask_all()?;
        }
        Ok(())
    }

    /// Returns the number of times that an answer of a server was waited for.
    #[cfg(test)]
    pub(crate) fn round_trips(&self) -> u64 {
        match self {
            Self::Sqlite(_) => 0,
            Self::Postgres(session) => session.round_trips(),
        }
    }

    /// Runs a statement once, and returns the number of rows that it changed.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.prepare_cached(sql)?.execute(params)
    }

    /// Runs statements without parameters.
    pub(crate) fn execute_batch(&self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Postgres(session) => session.batch(sql),
        }
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

    /// Returns the number of rows that it has changed since it was opened.
    pub(crate) fn total_changes(&self) -> u64 {
        match self {
            Self::Sqlite(connection) => connection.total_changes(),
            Self::Postgres(session) => session.changes(),
        }
    }

    /// Closes the connection; a failure that dropping it would hide is told.
    pub(crate) fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().map_err(|(_, error)| error.into()),
            Self::Postgres(_) => Ok(()),
        }
    }
}
