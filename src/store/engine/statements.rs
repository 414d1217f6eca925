//! The statements that a process ran, and which of them read a whole table.
//!
//! SQLite plans here by the statement alone, never by what a table holds, so a plan that reads no table whole on an empty
//! database reads none on one of millions of rows. Tests note every statement of all that they do, and ask afterwards.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::OpenFlags;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::error::{During, StoreError};
#[cfg(test)]
use super::sql::Connection;

static NOTED: OnceLock<Mutex<BTreeSet<String>>> = OnceLock::new();

/// Notes the statements of every connection that this process opens from now on. For tests: each statement costs a lock.
pub fn note_statements() {
    NOTED.get_or_init(Mutex::default);
}

/// Has a connection's statements noted, if that was asked for.
pub(super) fn note_those_of(connection: &mut rusqlite::Connection) -> rusqlite::Result<()> {
    let Some(noted) = NOTED.get() else { return Ok(()) };
    connection.trace_v2(
        TraceEventCodes::SQLITE_TRACE_STMT,
        Some(move |event: TraceEvent<'_>| {
            if let TraceEvent::Stmt(_, statement) = event {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                if !noted.contains(statement) {
                    noted.insert(statement.to_owned());
                }
            }
        }),
    )
}

/// A statement that reads a whole table or index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The statement.
    pub statement: String,
    /// The step of its plan, in SQLite's words.
    pub step: String,
}

/// Returns the noted statements that read one of these tables whole, by their plans on this database. A step that reads a
/// partial index is none: the index holds only what it is for.
pub fn scans(path: &Path, tables: &[&str]) -> Result<Vec<Scan>, StoreError> {
    let connection = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|source| StoreError::Open { path: path.to_owned(), source: source.into() })?;
    let partial: BTreeSet<String> = connection
        .prepare(
            "SELECT i.name FROM sqlite_schema s, pragma_index_list(s.name) i WHERE s.type = 'table' AND i.partial",
        )
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .during("list the partial indexes")?;
    let noted = NOTED.get().map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let mut found = Vec::new();
    for statement in noted.unwrap_or_default() {
        // What changes the schema or the connection has no plan.
        let Ok(steps) = steps_of(&connection, &statement) else { continue };
        let is_scan = |step: &&String| {
            let mut words = step.split(' ');
            words.next() == Some("SCAN")
                && words.next().is_some_and(|of| is_one_of(tables, of, &statement))
                && !partial.iter().any(|index| step.ends_with(index))
        };
        let step = steps.iter().find(is_scan).cloned();
        found.extend(step.map(|step| Scan { statement: statement.clone(), step }));
    }
    Ok(found)
}

/// Returns the steps of a statement's plan, in SQLite's words.
fn steps_of(connection: &rusqlite::Connection, statement: &str) -> rusqlite::Result<Vec<String>> {
    let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
    // Without its parameters: plans do not depend on them.
    explained.raw_query().mapped(|row| row.get("detail")).collect()
}

/// Returns the steps of a statement's plan, for tests.
#[cfg(test)]
pub(in crate::store) fn plan_of(connection: &Connection, statement: &str) -> Vec<String> {
    steps_of(connection.as_sqlite().unwrap(), statement).unwrap()
}

/// Reports whether a name in a plan is one of these tables, by its own name or by the one that the statement gives it.
fn is_one_of(tables: &[&str], name: &str, statement: &str) -> bool {
    let words: Vec<&str> = statement
        .split(|it: char| it.is_whitespace() || "(),;".contains(it))
        .filter(|word| !word.is_empty() && *word != "AS")
        .collect();
    tables.contains(&name)
        || words.windows(2).any(|pair| tables.contains(&pair[0]) && pair[1] == name)
}
