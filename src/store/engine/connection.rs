//! Opening the database file: pragmas, migrations, and what is refused.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;

use super::error::{During, StoreError};
use super::private_files::{make_folder, make_new, shut_out_others, with_suffix};
use super::secrets::make_secrets_in;
use super::sql::{self, Connection, Transaction};
use super::statements::note_those_of;

/// Numbered migrations; a file's place in this list plus one is the `user_version` it leads to.
/// Append only: an entry that was released is never edited or removed.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/001_catalog.sql"),
    include_str!("migrations/002_customers.sql"),
    include_str!("migrations/003_notifications.sql"),
    include_str!("migrations/004_metering.sql"),
    include_str!("migrations/005_agreements.sql"),
    include_str!("migrations/006_topics.sql"),
    include_str!("migrations/007_registrations.sql"),
    include_str!("migrations/008_signals.sql"),
    include_str!("migrations/009_mapping.sql"),
    include_str!("migrations/010_brakes.sql"),
    include_str!("migrations/011_webhook.sql"),
    include_str!("migrations/012_listings.sql"),
    include_str!("migrations/013_reads.sql"),
    include_str!("migrations/014_pruning.sql"),
    include_str!("migrations/015_requests.sql"),
    include_str!("migrations/016_usage_by_product.sql"),
    include_str!("migrations/017_activity.sql"),
    include_str!("migrations/018_webhook_lanes.sql"),
    include_str!("migrations/019_webhook_deliveries.sql"),
    include_str!("migrations/020_customer_events.sql"),
    include_str!("migrations/021_counts.sql"),
    include_str!("migrations/022_discarded_notifications.sql"),
    include_str!("migrations/023_erasures.sql"),
    include_str!("migrations/024_usage_sums.sql"),
    include_str!("migrations/025_plan_publications.sql"),
    include_str!("migrations/026_standstills.sql"),
    include_str!("migrations/027_activity_detail.sql"),
    include_str!("migrations/028_aws_record_ids.sql"),
];

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens (and creates) the database for writing and brings its schema up to date.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)
            .map_err(|source| StoreError::CreateFolder { folder: folder.to_owned(), source })?;
    }
    make_private(path)?;
    let connection = open_file(path)?;
    // FULL: a commit that was answered for must survive a power cut; NORMAL in WAL may lose the last ones.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA wal_autocheckpoint = 4000;",
        )
        .map_err(|source| not_opened(path, source))?;
    migrate(&connection, path)?;
    Ok(connection)
}

/// Opens a database file as it is.
pub(crate) fn open_file(path: &Path) -> Result<Connection, StoreError> {
    rusqlite::Connection::open(path)
        .and_then(prepare)
        .map_err(|source| not_opened(path, source.into()))
}

fn not_opened(path: &Path, source: sql::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), source }
}

/// Makes the database private; SQLite gives what it makes beside it the same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Mode { path: path.to_owned(), source };
    match make_new(path) {
        Ok(_empty) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(failed(source)),
    }
    for suffix in ["", "-wal", "-shm"] {
        let file = with_suffix(path, suffix);
        if file.exists() {
            shut_out_others(&file).map_err(failed)?;
        }
    }
    Ok(())
}

/// Opens a connection that can only read.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    rusqlite::Connection::open_with_flags(path, flags)
        .and_then(prepare)
        .map_err(|source| not_opened(path, source.into()))
}

/// Opens a file beside which nothing can be written. Nobody else may change it meanwhile.
pub(crate) fn open_immutable(path: &Path) -> Result<Connection, StoreError> {
    let text = path.to_string_lossy();
    let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{escaped}?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    rusqlite::Connection::open_with_flags(uri, flags)
        .map(Connection::Sqlite)
        .map_err(|source| not_opened(path, source.into()))
}

fn prepare(mut connection: rusqlite::Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    note_those_of(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(256);
    add_functions(&connection)?;
    // Plans depend on the statement alone. Without this SQLite looks at bound values, and prepares some statements
    // anew for each of them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA cache_size = -8000;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(Connection::Sqlite(connection))
}

type Choose = fn(i64, i64) -> i64;

/// Adds `greatest` and `least`, by which other engines call what SQLite has as `max` and `min` of several values. Of values
/// and nulls they return a value.
fn add_functions(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    for (name, choose) in [("greatest", i64::max as Choose), ("least", i64::min)] {
        connection.create_scalar_function(name, 2, flags, move |context| {
            let values: (Option<i64>, Option<i64>) = (context.get(0)?, context.get(1)?);
            Ok(match values {
                (Some(one), Some(other)) => Some(choose(one, other)),
                (one, other) => one.or(other),
            })
        })?;
    }
    Ok(())
}

/// Writes something that changes nothing.
pub(crate) fn try_writing_in(connection: &Connection) -> sql::Result<()> {
    let (read, again): (_, fn(i64) -> String) = match connection {
        Connection::Sqlite(_) => {
            ("PRAGMA user_version", |version| format!("PRAGMA user_version = {version}"))
        }
        Connection::Postgres(_) | Connection::Strand(_) => {
            ("SELECT version FROM schema_version", |version| {
                format!("UPDATE schema_version SET version = {version}")
            })
        }
    };
    let version = connection.query_row(read, [], |row| row.get(0))?;
    connection.execute_batch(&again(version))
}

/// Reports whether a database has a table.
pub(crate) fn is_database(connection: &Connection, with: &str) -> Result<bool, StoreError> {
    connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
            [with],
            |row| row.get(0),
        )
        .during("read what the database holds")
}

/// Opens a database that nobody changes by it: of this program's schema, or it says which it has.
pub(crate) fn check_schema(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| not_opened(path, source))?;
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(StoreError::NewerSchema { path: path.to_owned(), found, known }),
        Ordering::Less => Err(StoreError::OlderSchema { path: path.to_owned(), found, known }),
    }
}

/// Brings the schema of a database up to date.
pub(crate) fn migrate(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let migrated = (|| {
        let transaction = Transaction::begin(connection)?;
        let found = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > known {
            return Ok(Err(StoreError::NewerSchema { path: path.to_owned(), found, known }));
        }
        for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(migration)?;
        }
        make_secrets_in(&transaction)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {known}"))?;
        transaction.commit()?;
        Ok(Ok(()))
    })();
    migrated.map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_twice_changes_nothing_and_a_newer_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/marketd.db");
        drop(open_writer(&path).unwrap());
        let connection = open_writer(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 999").unwrap();
        drop(connection);
        let refusal = open_writer(&path).unwrap_err().to_string();
        assert!(refusal.contains("999"), "{refusal}");
    }

    #[test]
    fn what_was_told_of_subscriptions_is_kept_by_the_migration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let before = rusqlite::Connection::open(&path).unwrap();
        for migration in &MIGRATIONS[..7] {
            before.execute_batch(migration).unwrap();
        }
        before
            .execute_batch(
                "PRAGMA user_version = 7;
                 INSERT INTO buyer_signals VALUES ('code', 'x', 'unsubscribe-pending', 9, 1, NULL, 3, 8);
                 INSERT INTO buyer_signals VALUES ('code', 'y', 'subscribe-success', 5, NULL, NULL, 5, NULL);
                 INSERT INTO buyer_signals VALUES ('code', 'z', NULL, NULL, NULL, NULL, NULL, 7);",
            )
            .unwrap();
        drop(before);
        let after = open_writer(&path).unwrap();
        let told: String = after
            .query_row(
                "SELECT group_concat(customer_identifier || ' ' || at_ms || ' ' || action, ', ')
                 FROM subscription_signals",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(told, "x 3 subscribe-success, x 9 unsubscribe-pending, y 5 subscribe-success");
    }

    #[test]
    fn where_the_webhook_was_is_taken_over_in_both_lanes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let before = rusqlite::Connection::open(&path).unwrap();
        for migration in &MIGRATIONS[..17] {
            before.execute_batch(migration).unwrap();
        }
        before
            .execute_batch(
                "PRAGMA user_version = 17;
                 INSERT INTO events (id, type, at_ms, data) VALUES
                     ('a', 'plan.updated', 0, '{}'), ('b', 'metering.accepted', 0, '{}'),
                     ('c', 'plan.updated', 0, '{}'), ('d', 'metering.resolved', 0, '{}');
                 INSERT INTO cursors (reader, seq, turn) VALUES ('webhook', 1, 5);
                 INSERT INTO webhook_posted VALUES (3), (4);",
            )
            .unwrap();
        drop(before);
        let after = open_writer(&path).unwrap();
        let found: String = after
            .query_row(
                "SELECT (SELECT group_concat(lane || ' ' || seq, ', ') FROM webhook_lanes) || '; ' ||
                     (SELECT group_concat(lane || ' ' || seq, ', ') FROM webhook_ahead)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(found, "bulk 1, prompt 1; bulk 4, prompt 3");
    }

    #[test]
    fn what_was_counted_of_a_name_goes_to_the_product_that_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marketd.db");
        let before = rusqlite::Connection::open(&path).unwrap();
        for migration in &MIGRATIONS[..13] {
            before.execute_batch(migration).unwrap();
        }
        let subscription = |id, product, holder, starts: i64, ended: Option<i64>| {
            let statement = "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, status,
                 starts_at_ms, ended_at_ms, created_at_ms, updated_at_ms)
                 VALUES (?1, 'c', ?2, 'aws', ?3, iif(?5 IS NULL, 'active', 'canceled'), ?4, ?5, 0, 0)";
            before.execute(statement, (id, product, holder, starts, ended)).unwrap();
        };
        before
            .execute_batch(
                "PRAGMA user_version = 13;
                 INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES ('c', 1, 0, 0);",
            )
            .unwrap();
        subscription("s1", "gone", "buyer:x", 9, Some(10));
        subscription("s2", "older", "buyer:x", 1, None);
        subscription("s3", "newer", "buyer:x", 2, None);
        subscription("s4", "licensed", "license:l", 1, Some(5));
        before
            .execute_batch(
                "INSERT INTO usage_hours VALUES ('c', 'f', 'buyer:x', 0, 5, 1);
                 INSERT INTO usage_hours VALUES ('c', 'f', 'license:l', 0, 6, 2);
                 INSERT INTO usage_hours VALUES ('c', 'f', '', 0, 7, 3);",
            )
            .unwrap();
        drop(before);
        let after = open_writer(&path).unwrap();
        let counted: String = after
            .query_row(
                "SELECT group_concat(product_id || ' ' || holder || ' ' || quantity || ' ' || billed, ', ')
                 FROM usage_hours",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(counted, "  7 3, licensed license:l 6 2, newer buyer:x 5 1");
    }
}
