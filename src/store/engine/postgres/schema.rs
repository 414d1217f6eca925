//! The schema on a server, made and brought up to date by whoever starts first.

use super::super::error::StoreError;
use super::super::secrets::make_secrets_in;
use super::super::sql::{self, Connection, OptionalExtension as _, Patience, Transaction};
use super::super::wakeups::{RULES, Rule};
use super::notes::MIGRATOR;

/// The oldest server that the statements are written for: `server_version_num` of 14.0.
const OLDEST_SERVER: i64 = 140_000;

/// The steps from an empty schema to this program's; a step's place in this list plus one is the version that it leads to.
/// Each makes its tables in an order in which each refers to those before. Append only: a step that was released is never
/// edited or removed. A step may add, so that daemons of the version before go on beside it; what it leaves unused, a later
/// one may remove.
const STEPS: [&[&str]; 3] = [
    &[
        include_str!("schema/catalog.sql"),
        include_str!("schema/customers.sql"),
        include_str!("schema/facts.sql"),
        include_str!("schema/metering.sql"),
        include_str!("schema/base.sql"),
        "INSERT INTO turns (id, n) VALUES (1, 0)",
    ],
    &[include_str!("schema/002_turn_changes.sql")],
    &[include_str!("schema/003_room_for_changes.sql")],
];
/// The version that this program knows.
#[expect(clippy::cast_possible_wrap, reason = "the steps are few")]
const VERSION: i64 = STEPS.len() as i64;

const GUARDS: &str = include_str!("guards.sql");
const NOTES: &str = include_str!("notes.sql");

/// The server's own tables, which stand for what SQLite has by itself.
const OF_SERVER: [&str; 5] = ["turns", "turn_changes", "schema_version", "workers", "leases"];

/// Keeps everybody from writing until the transaction ends: whoever writes locks this row first, so that nobody waits here
/// for a table while somebody there waits for another.
const NOBODY_ELSE_WRITES: &str = "SELECT n FROM turns FOR UPDATE";
/// Removes the triggers that wake: which table each stands on may have changed.
const NO_WAKEUPS: &str = "DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND starts_with(CAST(t.tgname AS text), 'wake_')
    LOOP EXECUTE format('DROP TRIGGER %I ON %I', found.tgname, found.relname); END LOOP; END $$";

/// Lists the tables that both engines have, each after those that it refers to.
pub(in crate::store::engine) fn table_names() -> Vec<&'static str> {
    let names = STEPS.iter().flat_map(|step| step.iter()).flat_map(|part| part.lines());
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
        make_schema(connection, &schema).map_err(failed)?;
    }
    connection.execute_batch(MIGRATOR).map_err(failed)?;
    // An index of a large table takes its time.
    connection.be_patient(Patience::ENDLESS).map_err(failed)?;
    let transaction = Transaction::of_schema(connection).map_err(failed)?;
    let found = version_in(&transaction).map_err(failed)?;
    if let Some(found) = found.filter(|found| *found > VERSION) {
        return Err(StoreError::NewerServerSchema { found, known: VERSION });
    }
    go_to(&transaction, found.unwrap_or(0), VERSION)
        .and_then(|()| transaction.commit())
        .and_then(|()| connection.be_patient(Patience::USUAL))
        .map_err(failed)
}

/// Makes a schema, by its quoted name, if it is not there. Who may make none may use one that somebody else made, which
/// `IF NOT EXISTS` would refuse.
fn make_schema(connection: &Connection, schema: &str) -> sql::Result<()> {
    let is_there = "SELECT 1 WHERE to_regnamespace(CAST(?1 AS text)) IS NOT NULL";
    if connection.prepare_cached(is_there)?.exists([schema])? {
        return Ok(());
    }
    connection.execute_batch(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))
}

/// Takes the steps from one version to another, 0 where nothing is there, with the triggers as this program knows them.
fn go_to(transaction: &Transaction<'_>, found: i64, version: i64) -> sql::Result<()> {
    if found == version {
        return Ok(());
    }
    if found > 0 {
        transaction.execute_batch(NOBODY_ELSE_WRITES)?;
    }
    for (step, to) in STEPS.iter().zip(1..=version) {
        if to > found {
            step.iter().try_for_each(|part| transaction.execute_batch(part))?;
        }
    }
    let noted = "INSERT INTO schema_version (id, version) VALUES (1, ?1)
         ON CONFLICT (id) DO UPDATE SET version = excluded.version";
    transaction.execute(noted, [version])?;
    for part in [GUARDS, NOTES, NO_WAKEUPS, &wakeups()] {
        transaction.execute_batch(part)?;
    }
    if found == 0 { make_secrets_in(transaction) } else { Ok(()) }
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

    use aws_lc_rs::digest;

    use super::*;
    use crate::store::engine::place::{Place, ServerPlace};
    use crate::store::test_database::{on_server, place_on_server};

    /// The digests of the steps, and of the triggers that the last of them came with.
    const RELEASED: [&str; 3] = ["20acabd745f6c8e0", "fed59be930e0d373", "81372e0458272f8f"];
    const TRIGGERS: &str = "6380cea5fdfb359e";

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

    /// Returns the digest of what a version consists of, so that nobody edits one that daemons run on.
    fn digest(parts: &[&str]) -> String {
        let all = parts.concat();
        let digest = digest::digest(&digest::SHA256, all.as_bytes());
        digest
            .as_ref()
            .iter()
            .take(8)
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    #[test]
    fn what_was_released_is_never_edited() {
        for (step, known) in STEPS.iter().zip(RELEASED) {
            assert_eq!(digest(step), known, "append a step, and leave those before as they are");
        }
        let triggers = [GUARDS, NOTES, NO_WAKEUPS, &wakeups()];
        assert_eq!(
            (STEPS.len(), &*digest(&triggers)),
            (RELEASED.len(), TRIGGERS),
            "daemons that run already have other triggers: append a step, which may be empty, then note the digests of it \
             and of the triggers here"
        );
    }

    /// Makes a schema of the first version, where the tests have a server.
    fn of_first_version(path: &Path) -> Option<(ServerPlace, Connection)> {
        let (place, (_, schema)) = place_on_server(path).zip(on_server(path))?;
        let connection = Connection::Postgres(Box::new(place.connect().unwrap()));
        connection.execute_batch(&format!("CREATE SCHEMA {schema}")).unwrap();
        let transaction = Transaction::of_schema(&connection).unwrap();
        go_to(&transaction, 0, 1).unwrap();
        transaction.commit().unwrap();
        Some((place, connection))
    }

    #[test]
    fn a_schema_of_an_older_version_is_brought_up_to_date_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let Some((place, connection)) = of_first_version(&path) else { return };
        let event = "INSERT INTO events (id, type, at_ms, data) VALUES ('e', 'x', 1, '{}')";
        connection.execute(event, []).unwrap();
        // As a rule that is gone by now has left it.
        let old = "CREATE TRIGGER wake_99 AFTER INSERT ON copies FOR EACH ROW EXECUTE FUNCTION marketd_wake(1)";
        connection.execute_batch(old).unwrap();
        assert!(check(&connection).is_err(), "it is not this program's");

        let place = Place::Server(place);
        let writer = place.open_writer().unwrap();
        check(&writer).unwrap();
        let number = |sql: &str| writer.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("SELECT count(*) FROM events"), 1);
        assert_eq!(number("SELECT count(*) FROM turn_changes"), 0);
        assert_eq!(number("SELECT count(*) FROM pg_trigger WHERE tgname = 'wake_99'"), 0);
        drop(place.open_writer().unwrap());
    }

    #[test]
    fn whoever_brings_a_schema_up_to_date_waits_for_nobody_who_writes_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let Some((place, holder)) = of_first_version(&path) else { return };
        let held = Transaction::begin(&holder).unwrap();
        let (told, tried) = std::sync::mpsc::channel();
        let server = Place::Server(place);
        let opened = server.clone();
        std::thread::spawn(move || told.send(opened.open_writer().map(drop)));
        let refused = tried.recv_timeout(std::time::Duration::from_secs(20));
        let refused = refused.expect("it waits in vain for 10 s").unwrap_err();
        assert!(refused.is_passing(), "a start tries it again: {refused:?}");
        held.rollback().unwrap();
        drop(server.open_writer().unwrap());
    }

    #[test]
    fn both_engines_have_the_same_tables_and_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let Some(server) = place_on_server(&path) else { return };
        let of_file = read(
            &Place::from(Path::new(&path)).open_writer().unwrap(),
            "SELECT t.name, c.name, c.\"notnull\" OR c.pk > 0 FROM sqlite_schema t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
        );
        let server = Place::Server(server);
        // What stands there for SQLite's own order of rows, its version, its lock and its workers is its own.
        let of_server = read(
            &server.open_writer().unwrap(),
            "SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns
             WHERE table_schema = current_schema() AND column_name <> 'rowid'
               AND table_name NOT IN ('turns', 'turn_changes', 'schema_version', 'workers', 'leases')",
            "SELECT i.indexname FROM pg_indexes i WHERE i.schemaname = current_schema()
               AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname) ORDER BY 1",
        );
        assert_eq!(of_file, of_server);
    }
}
