//! The rows that a statement finds.

use rusqlite::types::{FromSql, FromSqlError, ValueRef};

use super::error::Error;
use super::error::Result;
use super::postgres::session::FoundRow;

/// A column, by its place or its name.
pub(crate) trait ColumnIndex: rusqlite::RowIndex {
    /// Returns the column's place among these.
    fn place(&self, columns: &[Box<str>]) -> Option<usize>;
}

impl ColumnIndex for usize {
    fn place(&self, _: &[Box<str>]) -> Option<usize> {
        Some(*self)
    }
}

impl ColumnIndex for &str {
    fn place(&self, columns: &[Box<str>]) -> Option<usize> {
        columns.iter().position(|name| **name == **self)
    }
}

/// A row.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(FoundRow),
}

impl Row<'_> {
    /// Returns the value of a column.
    pub(crate) fn get<I: ColumnIndex, T: FromSql>(&self, column: I) -> Result<T> {
        match self {
            Self::Sqlite(row) => Ok(row.get(column)?),
            Self::Postgres(row) => {
                let (place, value) = value_of(row, &column)?;
                T::column_result(value).map_err(|source| unreadable(row, place, source))
            }
        }
    }

    /// Returns the value of a column as the database holds it.
    pub(crate) fn get_ref<I: ColumnIndex>(&self, column: I) -> Result<ValueRef<'_>> {
        match self {
            Self::Sqlite(row) => Ok(row.get_ref(column)?),
            Self::Postgres(row) => Ok(value_of(row, &column)?.1),
        }
    }
}

fn value_of<'r>(row: &'r FoundRow, column: &impl ColumnIndex) -> Result<(usize, ValueRef<'r>)> {
    let place = column.place(row.columns()).unwrap_or(usize::MAX);
    let value =
        row.value(place).ok_or_else(|| unreadable(row, place, FromSqlError::InvalidType))?;
    Ok((place, value.into()))
}

fn unreadable(row: &FoundRow, place: usize, source: FromSqlError) -> Error {
    let column = row.columns().get(place).map_or("that was asked for", |name| name);
    Error::Column { column: column.to_owned(), source }
}

/// The rows of a statement, one after the other.
pub(crate) enum Rows<'s> {
    Sqlite(rusqlite::Rows<'s>),
    Postgres(std::vec::IntoIter<FoundRow>),
}

impl Rows<'_> {
    /// Returns the next row.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        Ok(match self {
            Self::Sqlite(rows) => rows.next()?.map(Row::Sqlite),
            Self::Postgres(rows) => rows.next().map(Row::Postgres),
        })
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
