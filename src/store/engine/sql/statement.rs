//! Prepared statements.

use rusqlite::CachedStatement;

use super::rows::MappedRows;
use super::{Params, Result, Row, Rows};

/// A prepared statement.
pub(crate) struct Statement<'c>(CachedStatement<'c>);

impl<'c> Statement<'c> {
    pub(super) const fn sqlite(statement: CachedStatement<'c>) -> Self {
        Self(statement)
    }

    /// Runs the statement, and returns the number of rows that it changed.
    pub(crate) fn execute(&mut self, params: impl Params) -> Result<usize> {
        Ok(self.0.execute(params)?)
    }

    /// Reports whether the statement finds a row.
    pub(crate) fn exists(&mut self, params: impl Params) -> Result<bool> {
        Ok(self.0.exists(params)?)
    }

    /// Asks for the rows.
    pub(crate) fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        Ok(Rows::sqlite(self.0.query(params)?))
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
            None => Err(rusqlite::Error::QueryReturnedNoRows.into()),
        }
    }
}
