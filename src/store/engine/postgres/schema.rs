//! The schema on a server, made and brought up to date by whoever starts first.

use super::super::error::StoreError;
use super::super::secrets::make_secrets_in;
use super::super::sql::{self, Connection, OptionalExtension as _, Transaction};
use super::super::wakeups::{RULES, Rule};

/// The version that this program knows.
const VERSION: i64 = 1;
/// The oldest server that the statements are written for: `server_version_num` of 14.0.
const OLDEST_SERVER: i64 = 140_000;

/// The tables, in an order in which each refers to those before.
const TABLES: [&str; 5] = [
    include_str!("schema/catalog.sql"),
    include_str!("schema/customers.sql"),
    include_str!("schema/facts.sql"),
    include_str!("schema/metering.sql"),
    include_str!("schema/base.sql"),
];
const GUARDS: &str = include_str!("guards.sql");
const NOTES: &str = include_str!("notes.sql");

/// The server's own tables, which stand for what SQLite has by itself.
const OF_SERVER: [&str; 4] = ["turns", "schema_version", "workers", "leases"];

/// Lists the tables that both engines have, each after those that it refers to.
pub(in crate::store::engine) fn table_names() -> Vec<&'static str> {
    let names = TABLES.iter().flat_map(|part| part.lines());
    let names =
        names.filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next());
    names.filter(|name| !OF_SERVER.contains(name)).collect()
}

/// Makes the schema, or brings it up to date. Others who start at the same time wait.
pub(in crate::store::engine) fn migrate(
    connection: &Connection,
    schema: Option<String>,
) -> Result<(), StoreError> {
    let failed = |source: sql::Error| {
        if source.is_missing_right() {
            return StoreError::MissingRight { detail: source.to_string() };
        }
        StoreError::MigrateServer { source }
    };
    refuse_old_server(connection)?;
    let found = version_in(connection).map_err(failed)?;
    // Who may make no tables may use those that are up to date.
    if found == Some(VERSION) {
        return Ok(());
    }
    if let Some(schema) = schema.filter(|_| found.is_none()) {
        let made = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        connection.execute_batch(&made).map_err(failed)?;
    }
    let transaction = Transaction::of_schema(connection).map_err(failed)?;
    let found = version_in(&transaction).map_err(failed)?;
    if let Some(found) = found.filter(|found| *found > VERSION) {
        return Err(StoreError::NewerServerSchema { found, known: VERSION });
    }
    (|| {
        if found.is_none() {
            for part in TABLES {
                transaction.execute_batch(part)?;
            }
            let version = "INSERT INTO schema_version (id, version) VALUES (1, ?1)";
            transaction.execute(version, [VERSION])?;
            transaction.execute("INSERT INTO turns (id, n) VALUES (1, 0)", [])?;
            for part in [GUARDS, NOTES, &wakeups()] {
                transaction.execute_batch(part)?;
            }
            make_secrets_in(&transaction)?;
        }
        transaction.commit()
    })()
    .map_err(failed)
}

fn refuse_old_server(connection: &Connection) -> Result<(), StoreError> {
    let asked = "SELECT CAST(current_setting('server_version_num') AS bigint), current_setting('server_version')";
    let (number, found): (i64, String) = connection
        .query_row(asked, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|source| StoreError::MigrateServer { source })?;
    if number < OLDEST_SERVER { Err(StoreError::OldServer { found }) } else { Ok(()) }
}

/// Refuses a schema that is none of this program's, where it is only to be read.
pub(in crate::store::engine) fn check(connection: &Connection) -> Result<(), StoreError> {
    let found = version_in(connection).map_err(|source| StoreError::MigrateServer { source })?;
    match found {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            Err(StoreError::NewerServerSchema { found, known: VERSION })
        }
        Some(found) => {
            Err(StoreError::UnmadeServerSchema { found: format!("has version {found}") })
        }
        None => Err(StoreError::UnmadeServerSchema { found: "is not there yet".to_owned() }),
    }
}

/// Returns the version of the schema that is there; none where there is none.
fn version_in(connection: &Connection) -> sql::Result<Option<i64>> {
    let is_there = "SELECT 1 FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_name = 'schema_version'";
    if !connection.prepare_cached(is_there)?.exists([])? {
        return Ok(None);
    }
    connection.query_row("SELECT version FROM schema_version", [], |row| row.get(0)).optional()
}

/// Returns the triggers that note whom a transaction wakes.
fn wakeups() -> String {
    let trigger = |(number, rule): (usize, &Rule)| {
        format!(
            "CREATE OR REPLACE TRIGGER wake_{number} AFTER {} ON {} FOR EACH ROW WHEN ({})
             EXECUTE FUNCTION marketd_wake({});\n",
            rule.does,
            rule.table,
            rule.when,
            rule.wakes.bit()
        )
    };
    RULES.iter().enumerate().map(trigger).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::store::engine::place::{Place, ServerPlace};
    use crate::store::test_database::on_server;

    /// The columns of each table, each with whether it must hold something, and the names of the indexes.
    type Schema = (BTreeMap<String, BTreeMap<String, bool>>, Vec<String>);

    fn read(connection: &Connection, columns: &str, indexes: &str) -> Schema {
        let mut tables = BTreeMap::<_, BTreeMap<_, _>>::new();
        let mut select = connection.prepare_cached(columns).unwrap();
        let row = |row: &sql::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        for found in select.query_map([], row).unwrap() {
            let (table, column, is_needed): (String, String, bool) = found.unwrap();
            tables.entry(table).or_default().insert(column, is_needed);
        }
        let mut select = connection.prepare_cached(indexes).unwrap();
        let names = select.query_map([], |row| row.get(0)).unwrap();
        (tables, names.collect::<sql::Result<_>>().unwrap())
    }

    #[test]
    fn both_engines_have_the_same_tables_and_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let Some((url, schema)) = on_server(&path) else { return };
        let of_file = read(
            &Place::from(Path::new(&path)).open_writer().unwrap(),
            "SELECT t.name, c.name, c.\"notnull\" OR c.pk > 0 FROM sqlite_schema t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
        );
        let address: sql::Address = url.parse().unwrap();
        let server = Place::Server(ServerPlace::new(address.in_schema(&schema), 1));
        // What stands there for SQLite's own order of rows, its version, its lock and its workers is its own.
        let of_server = read(
            &server.open_writer().unwrap(),
            "SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns
             WHERE table_schema = current_schema() AND column_name <> 'rowid'
               AND table_name NOT IN ('turns', 'schema_version', 'workers', 'leases')",
            "SELECT i.indexname FROM pg_indexes i WHERE i.schemaname = current_schema()
               AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname) ORDER BY 1",
        );
        assert_eq!(of_file, of_server);
    }
}
