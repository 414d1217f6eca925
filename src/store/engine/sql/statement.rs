//! Prepared statements.

use std::sync::Arc;

use rusqlite::CachedStatement;

use super::postgres::session::{Prepared, RowChanges, Session};
use super::postgres::strand::Strand;
use super::rows::MappedRows;
use super::{Error, Params, Result, Row, Rows};

/// A prepared statement.
pub(crate) enum Statement<'c> {
    Sqlite(CachedStatement<'c>),
    Postgres(&'c Session, Arc<Prepared>),
    Strand(&'c Strand, Arc<Prepared>),
}

impl Statement<'_> {
    /// Runs the statement, and returns the number of rows that it changed.
    pub(crate) fn execute(&mut self, params: impl Params) -> Result<usize> {
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(params)?),
            Self::Postgres(session, prepared) => session.execute(prepared, &params),
            Self::Strand(strand, prepared) => strand.execute(prepared, &params),
        }
    }

    /// Runs the statement, and does not wait for it where that is a way to go: a failure then comes out of whatever is
    /// waited for next, at the latest of the transaction's end. Only within a transaction.
    pub(crate) fn post(&mut self, params: impl Params) -> Result<()> {
        match self {
            Self::Sqlite(statement) => statement.execute(params).map(drop).map_err(Into::into),
            Self::Postgres(session, prepared) => session.post(prepared, &params, RowChanges::Any),
            Self::Strand(strand, prepared) => strand.post(prepared, &params, RowChanges::Any),
        }
    }

    /// Does the same with a statement that changes one row, which nothing else that was posted of it changes.
    pub(crate) fn post_one(&mut self, params: impl Params) -> Result<()> {
        match self {
            Self::Sqlite(statement) => statement.execute(params).map(drop).map_err(Into::into),
            Self::Postgres(session, prepared) => {
                session.post(prepared, &params, RowChanges::OneEach)
            }
            Self::Strand(strand, prepared) => strand.post(prepared, &params, RowChanges::OneEach),
        }
    }

    /// Runs a statement that returns one row for each of these parameters.
    pub(crate) fn query_row_each<P: Params + Copy, T>(
        &mut self,
        all: &[P],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        match self {
            Self::Sqlite(_) => {
                all.iter().map(|params| self.query_row(*params, &mut read)).collect()
            }
            Self::Postgres(session, prepared) => {
                let rows = session.query_each(prepared, all)?;
                rows.into_iter().map(|row| read(&Row::Postgres(row))).collect()
            }
            Self::Strand(strand, prepared) => {
                let rows = strand.query_each(prepared, all)?;
                rows.into_iter().map(|row| read(&Row::Postgres(row))).collect()
            }
        }
    }

    /// Reports whether the statement finds a row.
    pub(crate) fn exists(&mut self, params: impl Params) -> Result<bool> {
        match self {
            Self::Sqlite(statement) => Ok(statement.exists(params)?),
            Self::Postgres(session, prepared) => Ok(!session.query(prepared, &params)?.is_empty()),
            Self::Strand(strand, prepared) => Ok(!strand.query(prepared, &params)?.is_empty()),
        }
    }

    /// Asks for the rows.
    pub(crate) fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        Ok(match self {
            Self::Sqlite(statement) => Rows::Sqlite(statement.query(params)?),
            Self::Postgres(session, prepared) => {
                Rows::Postgres(session.query(prepared, &params)?.into_iter())
            }
            Self::Strand(strand, prepared) => {
                Rows::Postgres(strand.query(prepared, &params)?.into_iter())
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
