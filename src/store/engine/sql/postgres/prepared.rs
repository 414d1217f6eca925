//! Prepared statements, what they write, and the rows that they find.

use std::sync::Arc;

use rusqlite::types::Value;
use tokio_postgres::{Row, Statement};

use super::super::error::Result;
use super::value::Cell;

/// The tables of which the writer remembers rows between transactions.
const REMEMBERED: [&str; 5] =
    ["subscriptions", "licenses", "agreements", "customers", "customer_aliases"];

/// A statement that the server has prepared.
pub(crate) struct Prepared {
    statement: Statement,
    text: Box<str>,
    pub(super) names: Vec<String>,
    /// The names of the columns that it finds.
    columns: Arc<[Box<str>]>,
    /// The table that it changes, empty if it may be any; none if it only reads.
    written: Option<Box<str>>,
    /// Set if it may change rows of which something is remembered.
    pub(super) touches: bool,
}

impl Prepared {
    /// Makes one of what the server has prepared.
    pub(super) fn new(statement: Statement, text: String, names: Vec<String>) -> Self {
        let (written, touches) = (written_by(&text).map(Into::into), touches(&text));
        let columns = statement.columns().iter().map(|it| it.name().into()).collect();
        Self { statement, text: text.into(), names, columns, written, touches }
    }

    pub(super) const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Returns the table that it changes, empty if it may be any; none if it only reads.
    pub(super) fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// Reports whether it changes no row that is there.
    pub(super) fn only_adds(&self) -> bool {
        self.text.starts_with("INSERT") && !self.upserts()
    }

    /// Reports whether it changes a row where one is in its way.
    pub(super) fn upserts(&self) -> bool {
        self.text.contains("DO UPDATE")
    }

    /// Returns the statement as the server knows it.
    pub(super) const fn text(&self) -> &str {
        &self.text
    }
}

/// A row that came from the server.
#[derive(Clone, Debug)]
pub(crate) struct FoundRow {
    columns: Arc<[Box<str>]>,
    values: Vec<Value>,
}

impl FoundRow {
    /// Returns the names of the columns.
    pub(crate) fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// Returns the value of a column.
    pub(crate) fn value(&self, place: usize) -> Option<&Value> {
        self.values.get(place)
    }
}

/// Reads a row, but for so many columns in front that are not the statement's.
pub(super) fn found(prepared: &Prepared, row: &Row, from: usize) -> Result<FoundRow> {
    let values = (from..row.len()).map(|place| Ok(row.try_get::<_, Cell>(place)?.0));
    Ok(FoundRow { columns: Arc::clone(&prepared.columns), values: values.collect::<Result<_>>()? })
}

/// Returns a statement that asks for all columns as one that asks for them by their names; none if it does not. A column that
/// a newer version of the program adds to a table would else change what is found, and the server refuses to run a
/// prepared statement whose columns have changed.
pub(super) fn by_name(text: &str, statement: &Statement) -> Option<String> {
    let asks_for_all = text.contains("SELECT *") || text.contains(".*");
    if !asks_for_all || written_by(text).is_some() {
        return None;
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let names: Vec<String> = statement.columns().iter().map(|it| quoted(it.name())).collect();
    Some(format!("SELECT {} FROM ({text}) AS named", names.join(", ")))
}

/// Returns the table that a statement writes to; empty if it cannot be told, none if it only reads.
fn written_by(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace();
    match words.next()? {
        "INSERT" | "DELETE" => words.nth(1),
        "UPDATE" => words.next(),
        // Whatever was read since may hold no longer.
        "ROLLBACK" => Some(""),
        // One that begins with a table of its own may write to any.
        "WITH" => {
            let writes = ["UPDATE ", "INSERT ", "DELETE "].iter().any(|word| text.contains(word));
            writes.then_some("")
        }
        _ => None,
    }
}

/// Reports whether a statement may write to a table of which rows are remembered.
fn touches(text: &str) -> bool {
    written_by(text).is_some_and(|table| table.is_empty() || REMEMBERED.contains(&table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_writes_is_read_from_its_text() {
        for (text, writes, touched) in [
            ("SELECT * FROM customers", false, false),
            ("INSERT INTO customers (id) VALUES ($1)", true, true),
            ("UPDATE subscriptions SET status = $1", true, true),
            ("UPDATE events SET data = $1", true, false),
            ("DELETE FROM licenses", true, true),
            ("INSERT INTO metering_records (id) VALUES ($1) RETURNING id", true, false),
            ("ROLLBACK TO job", true, true),
            ("SAVEPOINT job", false, false),
            ("WITH old AS (SELECT 1) SELECT * FROM old", false, false),
            ("WITH old AS (SELECT 1) UPDATE events SET data = $1", true, true),
        ] {
            let read = (written_by(text).is_some(), touches(text));
            assert_eq!(read, (writes, touched), "{text}");
        }
    }
}
