//! Prepared statements.

use std::sync::Arc;

use rusqlite::CachedStatement;

use super::postgres::session::{Prepared, Session};
use super::rows::MappedRows;
use super::{Error, Params, Result, Row, Rows};

/// A prepared statement.
pub(crate) enum Statement<'c> {
    Sqlite(CachedStatement<'c>),
    Postgres(&'c Session, Arc<Prepared>),
}

impl Statement<'_> {
    /// Runs the statement, and returns the number of rows that it changed.
    pub(crate) fn execute(&mut self, params: impl Params) -> Result<usize> {
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(params)?),
            Self::Postgres(session, prepared) => session.execute(prepared, &params),
        }
    }

    /// Reports whether the statement finds a row.
    pub(crate) fn exists(&mut self, params: impl Params) -> Result<bool> {
        match self {
            Self::Sqlite(statement) => Ok(statement.exists(params)?),
            Self::Postgres(session, prepared) => Ok(!session.query(prepared, &params)?.is_empty()),
        }
    }

    /// Asks for the rows.
    pub(crate) fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        Ok(match self {
            Self::Sqlite(statement) => Rows::Sqlite(statement.query(params)?),
            Self::Postgres(session, prepared) => {
                Rows::Postgres(session.query(prepared, &params)?.into_iter())
            }
        })
    }

    /// Asks for the rows, each read by `read`.
    pub(crate) fn query_map<T, F: FnMut(&Row<'_>) -> Result<T>>(
        &mut self,
        params: impl Params,
        read: F,
    ) -> Result<MappedRows<'_, F>> {
        Ok(MappedRows::new(self.query(params)?, read))
    }

    /// Asks for the first row.
    pub(crate) fn query_row<T>(
        &mut self,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        match self.query(params)?.next()? {
            Some(row) => read(&row),
            None => Err(Error::NoRow),
        }
    }
}
