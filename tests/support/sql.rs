//! A look into a test's database, and a hand in it, past the store: the same statements for a file and for a server.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

use super::database::on_server;

/// A row, each column as text; bytes are read as text too.
pub(crate) type Row = Vec<Option<String>>;

/// Runs statements, and returns the first column of the last row that the last of them finds.
pub(crate) fn run(path: &Path, statements: &str) -> Option<String> {
    rows(path, statements).pop()?.swap_remove(0)
}

/// Runs statements, and returns the rows that the last of them finds.
pub(crate) fn rows(path: &Path, statements: &str) -> Vec<Row> {
    let Some(server) = on_server(path) else {
        return rows_of_file(&open_file(path), statements);
    };
    let messages = on_thread(ask(server, in_turn(statements))).unwrap();
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).map(text_of_server)).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Runs one statement, and returns how many rows it changed, or the words in which the database refuses it.
pub(crate) fn change(path: &Path, statement: &str) -> Result<u64, String> {
    let Some(server) = on_server(path) else {
        let changed = open_file(path).execute(statement, []);
        return changed.map(|rows| rows as u64).map_err(|refusal| refusal.to_string());
    };
    let refusal = |error: Error| error.as_db_error().unwrap().message().to_owned();
    let messages = on_thread(ask(server, in_turn(statement))).map_err(refusal)?;
    let changed = messages.into_iter().rev().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(rows),
        _ => None,
    });
    Ok(changed.unwrap_or(0))
}

/// Returns a text as it stands in a statement.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Lists the names of the tables.
pub(crate) fn tables(path: &Path) -> Vec<String> {
    let listed = match on_server(path) {
        Some(_) => {
            "SELECT CAST(tablename AS text) FROM pg_tables WHERE schemaname = current_schema()"
        }
        None => "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    rows(path, listed).into_iter().map(|mut row| row.swap_remove(0).unwrap()).collect()
}

/// What the database does when a table is written to.
#[derive(Clone, Copy)]
pub(crate) struct Trigger<'a> {
    pub(crate) table: &'a str,
    /// As `BEFORE INSERT`, or `AFTER UPDATE OF a_column`.
    pub(crate) at: &'a str,
    pub(crate) when: &'a str,
    /// A statement; none to have it refuse what was to be written.
    pub(crate) does: Option<&'a str>,
}

impl Trigger<'_> {
    /// Has the database do so from now on.
    pub(crate) fn set(&self, path: &Path) {
        let Self { table, at, when, does } = self;
        if on_server(path).is_none() {
            let does = does.unwrap_or("SELECT RAISE(ABORT, 'refused')");
            let made = format!(
                "CREATE TRIGGER of_test {at} ON {table} FOR EACH ROW WHEN {when} BEGIN {does}; END"
            );
            return open_file(path).execute_batch(&made).unwrap();
        }
        // Of the class of codes by which a server says that a constraint is broken, as SQLite's own triggers do.
        let does = does.unwrap_or("RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation'");
        run(
            path,
            &format!(
                "CREATE FUNCTION of_test() RETURNS trigger LANGUAGE plpgsql
                     AS $$ BEGIN {does}; RETURN new; END $$;
                 CREATE TRIGGER of_test {at} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION of_test()"
            ),
        );
    }

    /// Has the database do so no more.
    pub(crate) fn end(&self, path: &Path) {
        let ended = match on_server(path) {
            Some(_) => format!("DROP TRIGGER of_test ON {}; DROP FUNCTION of_test()", self.table),
            None => "DROP TRIGGER of_test".to_owned(),
        };
        run(path, &ended);
    }
}

/// Somebody else who has begun to write, so that nobody may write until they are done.
pub(crate) struct OtherWriter(Kept);

enum Kept {
    File(Connection),
    Server { done: Sender<()>, session: JoinHandle<()> },
}

impl OtherWriter {
    /// Begins to write, and goes on doing so.
    pub(crate) fn begin(path: &Path) -> Self {
        let Some(server) = on_server(path) else {
            let file = open_file(path);
            file.execute_batch("BEGIN IMMEDIATE").unwrap();
            return Self(Kept::File(file));
        };
        let (done, until) = channel();
        let (begun, begins) = channel();
        let session = std::thread::spawn(move || on_runtime(keep_turn(server, &begun, &until)));
        begins.recv().unwrap();
        Self(Kept::Server { done, session })
    }

    /// Is done.
    pub(crate) fn end(self) {
        match self.0 {
            Kept::File(file) => file.execute_batch("COMMIT").unwrap(),
            Kept::Server { done, session } => {
                done.send(()).unwrap();
                session.join().unwrap();
            }
        }
    }
}

/// Writers on a server take turns, so that who has taken one keeps the others waiting.
async fn keep_turn(server: (String, String), begun: &Sender<()>, until: &Receiver<()>) {
    let client = connect(server).await.unwrap();
    client.batch_execute("BEGIN; UPDATE turns SET n = n + 1").await.unwrap();
    begun.send(()).unwrap();
    // Whoever has gone without a word has failed: the session goes with the thread.
    if until.recv().is_ok() {
        client.batch_execute("COMMIT").await.unwrap();
    }
}

fn open_file(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

fn rows_of_file(file: &Connection, statements: &str) -> Vec<Row> {
    let (before, last) = statements.rsplit_once(';').unwrap_or(("", statements));
    if !last.trim_start().starts_with("SELECT") {
        file.execute_batch(statements).unwrap();
        return Vec::new();
    }
    file.execute_batch(before).unwrap();
    let mut select = file.prepare(last).unwrap();
    let columns = select.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        (0..columns).map(|column| Ok(text_of_file(row.get_ref(column)?))).collect()
    };
    select.query_map([], row).unwrap().map(Result::unwrap).collect()
}

fn text_of_file(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// A server writes bytes as `\x`, and each of them in two digits.
fn text_of_server(cell: &str) -> String {
    let bytes = cell.strip_prefix("\\x").and_then(|digits| {
        let two = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        (0..digits.len()).step_by(2).map(two).collect::<Option<Vec<u8>>>()
    });
    bytes.map_or_else(|| cell.to_owned(), |it| String::from_utf8_lossy(&it).into_owned())
}

async fn connect((url, schema): (String, String)) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = {schema}")).await?;
    Ok(client)
}

/// Who writes on a server takes a turn, by which a store that is open knows that somebody else has written.
fn in_turn(statements: &str) -> String {
    let reads = !statements.contains(';') && statements.trim_start().starts_with("SELECT");
    let turn = if reads { "" } else { "UPDATE turns SET n = n + 1;" };
    format!("{turn}{statements}")
}

async fn ask(
    server: (String, String),
    statements: String,
) -> Result<Vec<SimpleQueryMessage>, Error> {
    connect(server).await?.simple_query(&statements).await
}

/// A test is on a runtime's thread, which must not wait.
fn on_thread<T: Send + 'static>(asked: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| on_runtime(asked)).join().unwrap()
}

fn on_runtime<T>(asked: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
}
