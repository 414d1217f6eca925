//! The rows that a statement finds.

use rusqlite::types::{FromSql, ValueRef};

use super::Result;

/// A row.
pub(crate) struct Row<'r>(&'r rusqlite::Row<'r>);

impl<'r> Row<'r> {
    pub(super) const fn sqlite(row: &'r rusqlite::Row<'r>) -> Self {
        Self(row)
    }

    /// Returns the value of a column, by its place or its name.
    pub(crate) fn get<I: rusqlite::RowIndex, T: FromSql>(&self, column: I) -> Result<T> {
        Ok(self.0.get(column)?)
    }

    /// Returns the value of a column as the database holds it.
    pub(crate) fn get_ref<I: rusqlite::RowIndex>(&self, column: I) -> Result<ValueRef<'_>> {
        Ok(self.0.get_ref(column)?)
    }
}

/// The rows of a statement, one after the other.
pub(crate) struct Rows<'s>(rusqlite::Rows<'s>);

impl<'s> Rows<'s> {
    pub(super) const fn sqlite(rows: rusqlite::Rows<'s>) -> Self {
        Self(rows)
    }

    /// Returns the next row.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        Ok(self.0.next()?.map(Row::sqlite))
    }
}

/// The rows of a statement, each as what was read from it.
pub(crate) struct MappedRows<'s, F> {
    rows: Rows<'s>,
    read: F,
}

impl<'s, F> MappedRows<'s, F> {
    pub(super) const fn new(rows: Rows<'s>, read: F) -> Self {
        Self { rows, read }
    }
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for MappedRows<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.rows.next() {
            Ok(Some(row)) => Some((self.read)(&row)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
