//! Connections.

use super::error::{Error, Result};
use super::params::Params;
use super::postgres::patience::Patience;
use super::postgres::session::Session;
use super::postgres::strand::{Strand, interleave};
use super::rows::Row;
use super::statement::Statement;

/// A connection to a database.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
    /// One of several pieces of work that share another's transaction.
    Strand(Strand),
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
            Self::Sqlite(_) | Self::Strand(_) => Ok(()),
            Self::Postgres(session) => session.reconnect_if_lost(),
        }
    }

    /// Returns the number of the connection to the server, which counts how often it was made; 0 for a file.
    pub(crate) const fn number(&self) -> u64 {
        match self {
            Self::Sqlite(_) | Self::Strand(_) => 0,
            Self::Postgres(session) => session.number(),
        }
    }

    /// Has a server's answers waited for longer, or less long, from now on. Not within a transaction.
    pub(crate) fn be_patient(&self, patience: Patience) -> Result<()> {
        match self {
            Self::Sqlite(_) | Self::Strand(_) => Ok(()),
            Self::Postgres(session) => session.be_patient(patience),
        }
    }

    /// Returns the connection of SQLite's, if it is one.
    pub(crate) const fn as_sqlite(&self) -> Option<&rusqlite::Connection> {
        match self {
            Self::Sqlite(connection) => Some(connection),
            Self::Postgres(_) | Self::Strand(_) => None,
        }
    }

    /// Prepares a statement, or takes it as it was prepared before.
    pub(crate) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        Ok(match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection.prepare_cached(sql)?),
            Self::Postgres(session) => Statement::Postgres(session, session.prepare(sql)?),
            Self::Strand(strand) => Statement::Strand(strand, strand.prepare(sql)?),
        })
    }

    /// Reports whether each answer takes a way to a server and back.
    pub(crate) const fn is_remote(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Strand(_))
    }

    /// Waits until what was posted is done; returns the first failure. Of a strand whoever began it waits.
    pub(crate) fn settle(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) | Self::Strand(_) => Ok(()),
            Self::Postgres(session) => session.settle(),
        }
    }

    /// Asks ahead for what a statement is going to be asked for in this transaction, where there is a way to go. Not for
    /// tables that triggers write to.
    pub(crate) fn ask_ahead(&self, sql: &str, params: &impl Params) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(session) => session.ask(&session.prepare(sql)?, params),
            Self::Strand(strand) => strand.ask_ahead(&strand.prepare(sql)?, params),
        }
    }

    /// Runs pieces of work within the present transaction, each with what it is about; returns what each came to. Where the
    /// way to the database is long they go on in turns, so that all of them take as many round trips as the longest: no
    /// piece may read what another writes, but for what it reads once it is [`alone`](Self::alone). Elsewhere they run one
    /// after the other. Where one fails, an error is returned, and the transaction is to be undone.
    pub(crate) fn interleave<I: Sync, T: Send, E: Send>(
        &self,
        all: &[I],
        work: impl Fn(&Self, &I) -> std::result::Result<T, E> + Sync,
    ) -> std::result::Result<Vec<T>, E> {
        /// Each has a thread for as long as it runs.
        const AT_ONCE: usize = 100;
        match self {
            Self::Postgres(session) => {
                let piece = |strand, about: &I| work(&Self::Strand(strand), about);
                let (mut done, mut rest) = (Vec::with_capacity(all.len()), all);
                while let Some((first, behind)) = rest.split_first() {
                    let part = &rest[..rest.len().min(AT_ONCE)];
                    let begun = interleave(session, part, &piece)?;
                    if begun.is_empty() {
                        done.push(work(self, first)?);
                        rest = behind;
                    } else {
                        rest = &rest[begun.len()..];
                        done.extend(begun);
                    }
                }
                Ok(done)
            }
            Self::Sqlite(_) | Self::Strand(_) => {
                all.iter().map(|about| work(self, about)).collect()
            }
        }
    }

    /// Waits, in a piece of interleaved work, until all others have ended or wait here: from then on this is the only one.
    pub(crate) fn alone(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) | Self::Postgres(_) => Ok(()),
            Self::Strand(strand) => strand.alone(),
        }
    }

    /// Returns the number of times that an answer of a server was waited for.
    #[cfg(test)]
    pub(crate) fn round_trips(&self) -> u64 {
        match self {
            Self::Sqlite(_) | Self::Strand(_) => 0,
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
            Self::Strand(_) => Err(Error::WithinStrand),
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
            // Whoever began it counts.
            Self::Strand(_) => 0,
        }
    }

    /// Closes the connection; a failure that dropping it would hide is told.
    pub(crate) fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().map_err(|(_, error)| error.into()),
            Self::Postgres(_) | Self::Strand(_) => Ok(()),
        }
    }
}
