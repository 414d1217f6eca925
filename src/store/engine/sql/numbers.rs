//! The numbers that a table's rows are given in the order in which they are written, each once.

use super::connection::Connection;
use super::error::{OptionalExtension as _, Result};

impl Connection {
    /// Returns the last number that a table has given, also to a row that was deleted since; 0 before the first.
    pub(crate) fn last_number(&self, table: &str) -> Result<i64> {
        let statement = match self {
            Self::Sqlite(_) => "SELECT seq FROM sqlite_sequence WHERE name = ?1",
            Self::Postgres(_) | Self::Strand(_) => {
                "SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence(?1, 'seq') AS regclass)), 0)"
            }
        };
        self.prepare_cached(statement)?
            .query_row([table], |row| row.get(0))
            .optional()
            .map(Option::unwrap_or_default)
    }

    /// Has a table's numbers go on after this one.
    pub(crate) fn skip_numbers(&self, table: &str, last: i64) -> Result<()> {
        let statements: &[&str] = match self {
            Self::Sqlite(_) => &[
                "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1",
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, ?2
                 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
            ],
            Self::Postgres(_) | Self::Strand(_) => {
                &["SELECT setval(CAST(pg_get_serial_sequence(?1, 'seq') AS regclass), ?2)"]
            }
        };
        for statement in statements {
            self.execute(statement, (table, last))?;
        }
        Ok(())
    }
}
